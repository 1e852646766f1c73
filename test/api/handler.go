// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// maxBody bounds what a client may send.
const maxBody = 4 << 20

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, ok := parsePath(r.URL.Path)
	if !ok {
		s.serveOther(w, r)
		return
	}
	switch r.Method {
	case http.MethodGet:
		s.read(w, r, t)
	case http.MethodPost, http.MethodPut:
		s.write(w, r, t)
	case http.MethodPatch:
		found(w, r, t, s.store.get(t.resource, t.object()))
	case http.MethodDelete:
		found(w, r, t, s.store.delete(t.resource, t.object()))
	default:
		fail(w, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, fmt.Sprintf("%s is not served", r.Method))
	}
}

func (s *Server) serveOther(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz", "/livez", "/readyz":
		_, _ = io.WriteString(w, "ok")
	case "/version":
		send(w, http.StatusOK, asJSON.mediaType, []byte(`{"major":"1","minor":"37","gitVersion":"v1.37.0"}`))
	default:
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, r.URL.Path+" is not served")
	}
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, t target) {
	query := r.URL.Query()
	selected, err := parseSelection(t.namespace, query)
	switch watched := query.Get("watch"); {
	case err != nil:
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	case watched == "true" || watched == "1":
		s.watch(w, r, t.resource, selected)
	case t.name != "":
		found(w, r, t, s.store.get(t.resource, t.object()))
	default:
		s.list(w, r, t, selected)
	}
}

// found answers with an object, or that there is none.
func found(w http.ResponseWriter, r *http.Request, t target, i *item) {
	if i == nil {
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("%s %q not found", t.resource.Resource, t.name))
		return
	}
	answer(w, r, http.StatusOK, i)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, t target, selected selection) {
	all, version := s.store.list(t.resource)
	var items []*item
	for _, i := range all {
		if selected.has(i) {
			items = append(items, i)
		}
	}
	kind := kindFor(t.resource)
	kind.Kind += "List"
	enc := encodingFor(r)
	body, err := enc.list(kind, version, items)
	if err != nil {
		fail(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
		return
	}
	send(w, http.StatusOK, enc.mediaType, body)
}

// write takes what is sent. What has no name, or client-go does not know, is
// sent back and forgotten.
func (s *Server) write(w http.ResponseWriter, r *http.Request, t target) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	status := http.StatusOK
	if r.Method == http.MethodPost {
		status = http.StatusCreated
	}
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	obj, isObject := decoded.(Object)
	if err != nil || !isObject || obj.GetName() == "" {
		send(w, status, r.Header.Get("Content-Type"), body)
		return
	}
	if obj.GetNamespace() == "" {
		obj.SetNamespace(t.namespace)
	}
	if r.Method == http.MethodPost && s.store.get(t.resource, nameOf(obj)) != nil {
		fail(w, http.StatusConflict, metav1.StatusReasonAlreadyExists, fmt.Sprintf("%s %q already exists", t.resource.Resource, obj.GetName()))
		return
	}
	kept, err := s.store.put(obj)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, err.Error())
		return
	}
	answer(w, r, status, kept)
}

func answer(w http.ResponseWriter, r *http.Request, status int, i *item) {
	enc := encodingFor(r)
	body, err := enc.object(i)
	if err != nil {
		fail(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
		return
	}
	send(w, status, enc.mediaType, body)
}

func send(w http.ResponseWriter, status int, mediaType string, body []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func failure(code int, reason metav1.StatusReason, message string) []byte {
	body, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
	if err != nil {
		panic(err) // It has only strings and numbers.
	}
	return body
}

func fail(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	send(w, code, asJSON.mediaType, failure(code, reason, message))
}
