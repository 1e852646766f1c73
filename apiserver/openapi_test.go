// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apiserver/pkg/server/mux"
)

// testDocuments has the group apps/v1, and counts how often it was built.
func testDocuments(t *testing.T) (*documents, *int) {
	d, builds := newDocuments(func() []string { return []string{"api/v1", "apis/apps/v1"} }), new(int)
	d.v3.build = func(into *mux.PathRecorderMux) {
		*builds++
		into.HandlePrefix(openAPIv3+"/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				t.Errorf("asked for %s with %s", r.URL.Path, r.URL.RawQuery)
			}
			w.Write([]byte(r.URL.Path))
		}))
	}
	return d, builds
}

func TestDocumentsAreBuiltWhenAskedFor(t *testing.T) {
	d, builds := testDocuments(t)
	answer := httptest.NewRecorder()
	d.serveList(answer, httptest.NewRequest(http.MethodGet, openAPIv3, nil))
	var list groupList
	if err := json.Unmarshal(answer.Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	group, ok := list.Paths["apis/apps/v1"]
	if !ok || *builds != 0 {
		t.Fatalf("list is %v after %d builds", list, *builds)
	}
	get := func(url string) *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		d.serveGroup(answer, httptest.NewRequest(http.MethodGet, url, nil))
		return answer
	}
	for range 2 {
		if a := get(group.URL); a.Body.String() != "/openapi/v3/apis/apps/v1" || a.Header().Get("Expires") == "" {
			t.Errorf("%s answers %q with %v", group.URL, a.Body, a.Header())
		}
	}
	if a := get("/openapi/v3/apis/apps/v1"); a.Code != http.StatusOK || a.Header().Get("Expires") != "" {
		t.Errorf("without a hash: %d with %v", a.Code, a.Header())
	}
	if a := get("/openapi/v3/apis/apps/v1?hash=OLD"); a.Code != http.StatusMovedPermanently || a.Header().Get("Location") != group.URL {
		t.Errorf("with an old hash: %d to %s", a.Code, a.Header().Get("Location"))
	}
	if *builds != 1 {
		t.Errorf("built %d times", *builds)
	}
	d.v3.forget()
	if get(group.URL); *builds != 2 {
		t.Errorf("built %d times after they were forgotten", *builds)
	}
}
