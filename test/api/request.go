// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"net/url"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
)

// target is what the path of a request names.
type target struct {
	resource  schema.GroupVersionResource
	namespace string
	// name is empty for all objects of the resource.
	name string
}

func (t target) object() types.NamespacedName {
	return types.NamespacedName{Namespace: t.namespace, Name: t.name}
}

// parsePath reads /api/VERSION/… and /apis/GROUP/VERSION/…
func parsePath(path string) (target, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var t target
	switch {
	case len(parts) > 2 && parts[0] == "api":
		t.resource.Version, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		t.resource.Group, t.resource.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return t, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		t.namespace, parts = parts[1], parts[2:]
	}
	t.resource.Resource = parts[0]
	if len(parts) > 1 {
		t.name = parts[1]
	}
	return t, true
}

func parseSelection(namespace string, query url.Values) (selection, error) {
	out := selection{namespace: namespace}
	var err error
	if out.labels, err = labels.Parse(query.Get("labelSelector")); err != nil {
		return out, err
	}
	out.fields, err = fields.ParseSelector(query.Get("fieldSelector"))
	return out, err
}

func encodingFor(r *http.Request) *encoding {
	if strings.Contains(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		return &asProtobuf
	}
	return &asJSON
}

// kinds are those of client-go, by their resources.
var kinds = sync.OnceValue(func() map[schema.GroupVersionResource]schema.GroupVersionKind {
	out := map[schema.GroupVersionResource]schema.GroupVersionKind{}
	for kind := range scheme.Scheme.AllKnownTypes() {
		resource, _ := meta.UnsafeGuessKindToResource(kind)
		out[resource] = kind
	}
	return out
})

// kindFor is the kind of a resource; one that client-go does not know has a
// name that says so.
func kindFor(resource schema.GroupVersionResource) schema.GroupVersionKind {
	if kind, known := kinds()[resource]; known {
		return kind
	}
	return resource.GroupVersion().WithKind("Unknown")
}
