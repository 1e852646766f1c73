// SPDX-License-Identifier: Apache-2.0

package agent

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// recorder makes events in the name of a component.
func (a *Agent) recorder(component string) record.EventRecorder {
	return a.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component, Host: a.cfg.NodeName})
}

// nodeWarns returns what makes warnings about this node, as `kubectl describe node`
// shows them.
func (a *Agent) nodeWarns(component string) func(reason, message string) {
	recorder := a.recorder(component)
	// By this uid, events of a node are found that does not know its object.
	node := &corev1.ObjectReference{Kind: "Node", Name: a.cfg.NodeName, UID: types.UID(a.cfg.NodeName)}
	return func(reason, message string) { recorder.Event(node, corev1.EventTypeWarning, reason, message) }
}

// sendEvents has events sent to the API from now on.
func (a *Agent) sendEvents() {
	a.events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: a.cfg.Client.CoreV1().Events("")})
}
