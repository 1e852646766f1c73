// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	extensionsopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/component-base/version"
	"k8s.io/kube-aggregator/pkg/apiserver"
	aggregatoropenapi "k8s.io/kube-aggregator/pkg/generated/openapi"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

const (
	openAPIv2 = "/openapi/v2"
	openAPIv3 = "/openapi/v3"
	// forgetAfter is how long documents that nobody asks for are kept.
	forgetAfter = 10 * time.Minute
)

// documents serve the OpenAPI documents of the built-in API. Upstream builds all
// of them before the API server is ready; here they are built when somebody asks
// for one, and forgotten when nobody does any more. They are the same for each
// run of a program, so that the list of those of version 3 can be given without
// building them.
type documents struct {
	// list is the answer with all group versions.
	list   func() ([]byte, error)
	v2, v3 lazyHandler
}

// narrowDefinitions leaves the servers beside the built-in API with the
// definitions of their own types. Upstream gives them those of all types, of which
// each makes a copy.
func narrowDefinitions(conf *app.Config) {
	extensions := *conf.ApiExtensions.GenericConfig.OpenAPIConfig
	extensions.GetDefinitions = extensionsopenapi.GetOpenAPIDefinitions
	conf.ApiExtensions.GenericConfig.OpenAPIConfig = &extensions
	aggregator := *conf.Aggregator.GenericConfig.OpenAPIConfig
	aggregator.GetDefinitions = aggregatoropenapi.GetOpenAPIDefinitions
	conf.Aggregator.GenericConfig.OpenAPIConfig = &aggregator
}

// installDocuments serves the documents of the server that has the built-in
// API, which comes second in the chain.
func installDocuments(chain *apiserver.APIAggregator, conf *server.Config) error {
	builtIn, ok := chain.GenericAPIServer.NextDelegate().(*server.GenericAPIServer)
	if !ok {
		return fmt.Errorf("serve OpenAPI: the chain of servers has %T behind the aggregator, expected %T", chain.GenericAPIServer.NextDelegate(), builtIn)
	}
	container := builtIn.Handler.GoRestfulContainer
	d := newDocuments(func() []string {
		var groups []string
		for _, service := range container.RegisteredWebServices() {
			groups = append(groups, strings.TrimPrefix(service.RootPath(), "/"))
		}
		return groups
	})
	d.v2.build = func(into *mux.PathRecorderMux) { routes.OpenAPI{Config: conf.OpenAPIConfig}.InstallV2(container, into) }
	d.v3.build = func(into *mux.PathRecorderMux) {
		routes.OpenAPI{V3Config: conf.OpenAPIV3Config}.InstallV3(container, into)
	}
	paths := builtIn.Handler.NonGoRestfulMux
	paths.Handle(openAPIv2, &d.v2)
	paths.HandleFunc(openAPIv3, d.serveList)
	paths.HandlePrefix(openAPIv3+"/", http.HandlerFunc(d.serveGroup))
	return nil
}

// newDocuments returns documents for the group versions that there are when the
// list is asked for first.
func newDocuments(groups func() []string) *documents {
	return &documents{list: sync.OnceValues(func() ([]byte, error) { return marshalList(groups()) })}
}

// serveList answers with the group versions that there are documents for. The
// aggregator asks every second.
func (d *documents) serveList(w http.ResponseWriter, _ *http.Request) {
	list, err := d.list()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(list)
}

// groupList is the list of documents as clients read it.
type groupList struct {
	Paths map[string]groupPath `json:"paths"`
}

type groupPath struct {
	URL string `json:"serverRelativeURL"`
}

func marshalList(groups []string) ([]byte, error) {
	list := groupList{Paths: map[string]groupPath{}}
	for _, group := range groups {
		list.Paths[group] = groupPath{URL: openAPIv3 + "/" + group + "?hash=" + documentHash(group)}
	}
	return json.Marshal(list)
}

// documentHash changes with the program, as the documents do.
func documentHash(group string) string {
	running := version.Get()
	sum := sha256.Sum256([]byte(running.String() + running.GitCommit + group))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// serveGroup serves the document of a group version. What is asked for by its
// hash never changes.
func (d *documents) serveGroup(w http.ResponseWriter, r *http.Request) {
	group := strings.TrimPrefix(r.URL.Path, openAPIv3+"/")
	hash := r.URL.Query().Get("hash")
	if hash != "" {
		r = r.Clone(r.Context())
		r.URL.RawQuery = ""
		if hash != documentHash(group) {
			http.Redirect(w, r, r.URL.Path+"?hash="+documentHash(group), http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	d.v3.ServeHTTP(w, r)
}

// lazyHandler is built for the first request, and forgotten some time after the
// last one.
type lazyHandler struct {
	build func(into *mux.PathRecorderMux)

	mu    sync.Mutex
	built *mux.PathRecorderMux
	timer *time.Timer
}

// ServeHTTP builds the handler if need be and passes the request on.
func (l *lazyHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) { l.get().ServeHTTP(w, r) }

func (l *lazyHandler) get() http.Handler {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.built == nil {
		l.built = mux.NewPathRecorderMux("openapi")
		l.build(l.built)
		l.timer = time.AfterFunc(forgetAfter, l.forget)
	}
	l.timer.Reset(forgetAfter)
	return l.built
}

func (l *lazyHandler) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.built = nil
}
