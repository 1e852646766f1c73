// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// item is an object that never changes, encoded when it is first asked for.
type item struct {
	kind   schema.GroupVersionKind
	object Object

	jsonOnce, protobufOnce sync.Once
	json, protobuf         []byte
	err                    error
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// encoding is how objects are sent.
type encoding struct {
	mediaType, watchType string
	// object encodes one object as the body of an answer.
	object func(*item) ([]byte, error)
	// list encodes many.
	list func(kind schema.GroupVersionKind, version uint64, items []*item) ([]byte, error)
	// frame makes an event of a watch out of what object returned.
	frame func(change string, object []byte) ([]byte, error)
}

var asJSON = encoding{
	mediaType: runtime.ContentTypeJSON, watchType: runtime.ContentTypeJSON,
	object: (*item).encodeJSON,
	list: func(kind schema.GroupVersionKind, version uint64, items []*item) ([]byte, error) {
		head := fmt.Sprintf(`{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"%d"},"items":[`, kind.Kind, kind.GroupVersion(), version)
		return joinJSON(head, items)
	},
	frame: func(change string, object []byte) ([]byte, error) {
		return fmt.Appendf(nil, "{\"type\":%q,\"object\":%s}\n", change, object), nil
	},
}

var asProtobuf = encoding{
	mediaType: runtime.ContentTypeProtobuf, watchType: runtime.ContentTypeProtobuf + ";stream=watch",
	object: func(i *item) ([]byte, error) {
		raw, err := i.encodeProtobuf()
		if err != nil {
			return nil, err
		}
		return envelope(i.kind, raw)
	},
	list: listProtobuf,
	frame: func(change string, object []byte) ([]byte, error) {
		raw, err := (&metav1.WatchEvent{Type: change, Object: runtime.RawExtension{Raw: object}}).Marshal()
		if err != nil {
			return nil, err
		}
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...), nil
	},
}

func (i *item) encodeJSON() ([]byte, error) {
	i.jsonOnce.Do(func() { i.json, i.err = json.Marshal(i.object) })
	return i.json, i.err
}

// encodeProtobuf is without what tells the kind.
func (i *item) encodeProtobuf() ([]byte, error) {
	i.protobufOnce.Do(func() {
		message, ok := i.object.(interface{ Marshal() ([]byte, error) })
		if !ok {
			i.err = fmt.Errorf("%v has no protobuf", i.kind)
			return
		}
		i.protobuf, i.err = message.Marshal()
	})
	return i.protobuf, i.err
}

func joinJSON(head string, items []*item) ([]byte, error) {
	size := len(head)
	for _, i := range items {
		one, err := i.encodeJSON()
		if err != nil {
			return nil, err
		}
		size += len(one) + 1
	}
	out := append(make([]byte, 0, size+2), head...)
	for n, i := range items {
		if n > 0 {
			out = append(out, ',')
		}
		out = append(out, i.json...)
	}
	return append(out, ']', '}'), nil
}

// envelope is how Kubernetes tells the kind of a protobuf message.
func envelope(kind schema.GroupVersionKind, raw []byte) ([]byte, error) {
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind}, Raw: raw}
	message, err := unknown.Marshal()
	return append([]byte{'k', '8', 's', 0}, message...), err
}

// Of all messages that are lists, the first field is the metadata, the second
// the objects.
const metadataField, itemField = 1<<3 | 2, 2<<3 | 2

func listProtobuf(kind schema.GroupVersionKind, version uint64, items []*item) ([]byte, error) {
	metadata, err := (&metav1.ListMeta{ResourceVersion: strconv.FormatUint(version, 10)}).Marshal()
	if err != nil {
		return nil, err
	}
	size := len(metadata) + 1 + binary.MaxVarintLen32
	for _, i := range items {
		one, err := i.encodeProtobuf()
		if err != nil {
			return nil, err
		}
		size += len(one) + 1 + binary.MaxVarintLen32
	}
	out := appendField(make([]byte, 0, size), metadataField, metadata)
	for _, i := range items {
		out = appendField(out, itemField, i.protobuf)
	}
	return envelope(kind, out)
}

func appendField(to []byte, tag byte, value []byte) []byte {
	to = binary.AppendUvarint(append(to, tag), uint64(len(value)))
	return append(to, value...)
}

// selection is which objects a client asks for.
type selection struct {
	namespace string
	labels    labels.Selector
	fields    fields.Selector
}

func (s selection) has(i *item) bool {
	if i == nil || s.namespace != "" && i.object.GetNamespace() != s.namespace {
		return false
	}
	return s.labels.Matches(labels.Set(i.object.GetLabels())) && (s.fields.Empty() || s.fields.Matches(fieldsOf(i.object)))
}

// fieldsOf are those that clients select by.
func fieldsOf(obj Object) fields.Set {
	out := fields.Set{"metadata.name": obj.GetName(), "metadata.namespace": obj.GetNamespace()}
	if pod, ok := obj.(*corev1.Pod); ok {
		out["spec.nodeName"], out["status.phase"] = pod.Spec.NodeName, string(pod.Status.Phase)
	}
	return out
}
