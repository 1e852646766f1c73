// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// Resource is that of AddressPool objects.
var Resource = schema.GroupVersionResource{Group: "slipway.dev", Version: "v1alpha1", Resource: "addresspools"}

// NewInformer returns an informer of AddressPools. The caller starts it.
func NewInformer(client dynamic.Interface) cache.SharedIndexInformer {
	return dynamicinformer.NewFilteredDynamicInformer(client, Resource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
}

// WaitForPool waits until there is an AddressPool; it returns false when ctx ends
// first.
func WaitForPool(ctx context.Context, pools cache.SharedIndexInformer) bool {
	found := make(chan struct{})
	once := sync.OnceFunc(func() { close(found) })
	handle, err := pools.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(any) { once() }})
	if err != nil {
		return false // The informer has ended, as ctx has or will.
	}
	defer pools.RemoveEventHandler(handle)
	select {
	case <-ctx.Done():
		return false
	case <-found:
		return true
	}
}

func nameOfPool(object *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Name: object.GetName()}
}

type object = map[string]any

// Definition is the CustomResourceDefinition of AddressPool.
func Definition() *unstructured.Unstructured {
	text := func(description string) object { return object{"type": "string", "description": description} }
	properties := object{
		"addresses": object{
			"type": "array", "minItems": int64(1), "maxItems": int64(64), "x-kubernetes-list-type": "set",
			"description": "Ranges of addresses, each like 192.0.2.10-192.0.2.20, 192.0.2.0/28 or 2001:db8::7.",
			"items":       object{"type": "string", "minLength": int64(2), "maxLength": int64(91)},
		},
		"autoAssign": object{
			"type": "boolean", "default": true,
			"description": "Whether Services that do not ask for this pool or for one of its addresses get addresses of it.",
		},
		"serviceSelector": object{
			"type": "object", "x-kubernetes-preserve-unknown-fields": true,
			"description": "Labels of the Services that may have addresses of this pool; all may when it is not set.",
		},
	}
	column := func(name, kind, path string) any { return object{"name": name, "type": kind, "jsonPath": path} }
	version := object{
		"name": Resource.Version, "served": true, "storage": true,
		"additionalPrinterColumns": []any{
			column("Addresses", "string", ".spec.addresses"), column("AutoAssign", "boolean", ".spec.autoAssign"),
			column("Age", "date", ".metadata.creationTimestamp"),
		},
		"schema": object{"openAPIV3Schema": object{
			"type": "object", "required": []any{"spec"},
			"description": "AddressPool has addresses for Services of type LoadBalancer.",
			"properties": object{
				"apiVersion": text("Version of this representation."), "kind": text("AddressPool."),
				"metadata": object{"type": "object"},
				"spec":     object{"type": "object", "required": []any{"addresses"}, "properties": properties},
			},
		}},
	}
	return &unstructured.Unstructured{Object: object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": object{"name": Resource.GroupResource().String()},
		"spec": object{
			"group": Resource.Group, "scope": "Cluster", "versions": []any{version},
			"names": object{
				"kind": "AddressPool", "listKind": "AddressPoolList", "plural": Resource.Resource, "singular": "addresspool",
				"shortNames": []any{"lbpool"},
			},
		},
	}}
}
