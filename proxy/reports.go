// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"maps"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
)

const (
	// stays is how long a problem must last before an Event tells of it: objects
	// that belong together do not change at once.
	stays = 2 * time.Second
	// reportsAtOnce is how many objects Events are made for at once; the others
	// wait for as long again.
	reportsAtOnce = 10
	// longestMessage is what the API takes.
	longestMessage = 1024
)

// reporter tells of problems by Events, of each once for as long as it stays. It
// is safe for concurrent use.
type reporter struct {
	recorder record.EventRecorder
	// about is the object that the Event for one is about; nil when it is gone.
	about func(object string) runtime.Object
	stays time.Duration

	mu  sync.Mutex
	now []Problem
	// changed holds at most one note that there may be something to tell.
	changed chan struct{}
}

// set replaces all problems, in order of their objects.
func (r *reporter) set(now []Problem) {
	r.mu.Lock()
	r.now = now
	r.mu.Unlock()
	r.again()
}

func (r *reporter) again() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *reporter) problems() []Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *reporter) run(ctx context.Context) error {
	told := map[Problem]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
		}
		before := setOf(r.problems())
		if !sleep(ctx, r.stays) {
			return nil
		}
		now := r.problems()
		still := setOf(now)
		maps.DeleteFunc(told, func(problem Problem, _ bool) bool { return !still[problem] })
		r.report(now, before, told)
	}
}

func setOf(problems []Problem) map[Problem]bool {
	out := make(map[Problem]bool, len(problems))
	for _, p := range problems {
		out[p] = true
	}
	return out
}

// report makes an Event for each object that has a problem which was there before
// and is not told.
func (r *reporter) report(now []Problem, before, told map[Problem]bool) {
	messages := map[string][]string{}
	for _, p := range now {
		if told[p] || !before[p] {
			continue
		}
		if messages[p.Object] == nil && len(messages) == reportsAtOnce {
			r.again()
			break
		}
		told[p] = true
		messages[p.Object] = append(messages[p.Object], p.Message)
	}
	for object, texts := range messages {
		about := r.about(object)
		if about == nil {
			continue
		}
		message := strings.Join(texts, "; ")
		if _, isService := about.(*corev1.Service); isService && !strings.HasPrefix(object, "Service ") {
			message = object + ": " + message
		}
		r.recorder.Event(about, corev1.EventTypeWarning, "CannotServe", cut(message))
	}
}

// cut shortens a message to what the API takes.
func cut(message string) string {
	if len(message) <= longestMessage {
		return message
	}
	message = message[:longestMessage-len("…")]
	for !utf8.ValidString(message) {
		message = message[:len(message)-1]
	}
	return message + "…"
}

// about finds the object that is to get an Event for the one of a Problem: for a
// slice the Service that it is of.
func (p *Proxy) about(object string) runtime.Object {
	kind, key, _ := strings.Cut(object, " ")
	switch kind {
	case "Service":
		return p.serviceAt(key)
	case "EndpointSlice":
		obj, known, err := p.slices.GetByKey(key)
		if err != nil || !known {
			return nil
		}
		slice := obj.(*discoveryv1.EndpointSlice)
		if service := p.serviceAt(serviceOf(slice)); service != nil {
			return service
		}
		return slice
	case "Pod":
		namespace, name, _ := strings.Cut(key, "/")
		if pod, err := p.pods.Pods(namespace).Get(name); err == nil {
			return pod
		}
	}
	return nil
}

func (p *Proxy) serviceAt(key string) runtime.Object {
	namespace, name, _ := strings.Cut(key, "/")
	service, err := p.services.Services(namespace).Get(name)
	if err != nil {
		return nil
	}
	return service
}
