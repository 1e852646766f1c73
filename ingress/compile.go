// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// legacyClass is the annotation from before there were IngressClasses.
const legacyClass = "kubernetes.io/ingress.class"

// Objects is what the API says.
type Objects struct {
	Ingresses []*networkingv1.Ingress
	Classes   []*networkingv1.IngressClass
	Services  []*corev1.Service
	Slices    []*discoveryv1.EndpointSlice
	Secrets   []*corev1.Secret
}

// Problem is a part of an Ingress that cannot be served.
type Problem struct {
	Ingress *networkingv1.Ingress
	// Reason is the reason of the event, in one word.
	Reason string
	// Message names the field, its value and what was expected.
	Message string
}

// Compile turns objects into a table. It is a pure function. What makes no
// sense becomes a Problem, and the rest is served. Where two Ingresses claim
// the same host and path, the older one has it.
func Compile(objects Objects) (*Table, []Problem) {
	c := newCompiler(objects)
	var ours []*networkingv1.Ingress
	for _, ing := range objects.Ingresses {
		if Ours(ing, objects.Classes) {
			ours = append(ours, ing)
		}
	}
	slices.SortFunc(ours, func(a, b *networkingv1.Ingress) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, ing := range ours {
		c.ingress(ing)
	}
	// Default backends come last: a rule for "/" without a host goes first.
	for _, ing := range ours {
		c.defaultBackend(ing)
	}
	return c.table, c.problems
}

// Ours tells whether an Ingress is to be served by this controller.
func Ours(ing *networkingv1.Ingress, classes []*networkingv1.IngressClass) bool {
	if ing.Spec.IngressClassName != nil {
		return slices.ContainsFunc(classes, func(c *networkingv1.IngressClass) bool {
			return c.Name == *ing.Spec.IngressClassName && c.Spec.Controller == ControllerName
		})
	}
	if class, ok := ing.Annotations[legacyClass]; ok {
		return class == ClassName
	}
	return slices.ContainsFunc(classes, func(c *networkingv1.IngressClass) bool {
		return c.Spec.Controller == ControllerName && c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true"
	})
}

type compiler struct {
	table    *Table
	services map[string]*corev1.Service
	slices   map[string][]*discoveryv1.EndpointSlice
	secrets  map[string]*corev1.Secret
	backends map[string]*Backend
	problems []Problem
}

func newCompiler(objects Objects) *compiler {
	c := &compiler{
		table: &Table{
			hosts: map[string]*routes{}, wildcards: map[string]*routes{},
			exactCerts: map[string]*tls.Certificate{}, wildcardCerts: map[string]*tls.Certificate{},
		},
		services: map[string]*corev1.Service{}, slices: map[string][]*discoveryv1.EndpointSlice{},
		secrets: map[string]*corev1.Secret{}, backends: map[string]*Backend{},
	}
	for _, s := range objects.Services {
		c.services[s.Namespace+"/"+s.Name] = s
	}
	for _, s := range objects.Slices {
		key := s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]
		c.slices[key] = append(c.slices[key], s)
	}
	for _, s := range objects.Secrets {
		c.secrets[s.Namespace+"/"+s.Name] = s
	}
	return c
}

func (c *compiler) problem(ing *networkingv1.Ingress, reason, format string, args ...any) {
	c.problems = append(c.problems, Problem{ing, reason, fmt.Sprintf(format, args...)})
}

func (c *compiler) ingress(ing *networkingv1.Ingress) {
	for i, entry := range ing.Spec.TLS {
		c.tls(ing, i, entry)
	}
	for i, rule := range ing.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		into := c.routesOf(rule.Host)
		for j, path := range rule.HTTP.Paths {
			field := fmt.Sprintf("spec.rules[%d].http.paths[%d]", i, j)
			c.path(ing, field, into, path)
		}
	}
}

// routesOf returns the routes of a host, which may be empty or a wildcard.
func (c *compiler) routesOf(host string) *routes {
	in, name := c.table.hosts, strings.ToLower(host)
	if name == "" {
		return &c.table.any
	}
	if parent, ok := strings.CutPrefix(name, "*."); ok {
		in, name = c.table.wildcards, parent
	}
	if in[name] == nil {
		in[name] = &routes{}
	}
	return in[name]
}

func (c *compiler) path(ing *networkingv1.Ingress, field string, into *routes, path networkingv1.HTTPIngressPath) {
	exact := path.PathType != nil && *path.PathType == networkingv1.PathTypeExact
	text := cmp.Or(path.Path, "/")
	if text[0] != '/' {
		c.problem(ing, "InvalidPath", "%s.path %q: expected a path that begins with /", field, text)
		return
	}
	backend := c.backend(ing, field+".backend", &path.Backend)
	if backend != nil && !into.add(text, exact, backend) {
		c.problem(ing, "Conflict", "%s.path %q: an older Ingress has this host and path", field, text)
	}
}

func (c *compiler) defaultBackend(ing *networkingv1.Ingress) {
	if ing.Spec.DefaultBackend == nil {
		return
	}
	backend := c.backend(ing, "spec.defaultBackend", ing.Spec.DefaultBackend)
	if backend == nil {
		return
	}
	// The default backend takes what the Ingress' own hosts leave over.
	for _, rule := range ing.Spec.Rules {
		c.routesOf(rule.Host).add("/", false, backend)
	}
	if len(ing.Spec.Rules) == 0 && !c.table.any.add("/", false, backend) {
		c.problem(ing, "Conflict", "spec.defaultBackend: an older Ingress has the default backend")
	}
}

// backend finds the Service port and its endpoints. Backends of the same port
// are one.
func (c *compiler) backend(ing *networkingv1.Ingress, field string, from *networkingv1.IngressBackend) *Backend {
	if from.Service == nil {
		c.problem(ing, "InvalidBackend", "%s.resource: only Services are served", field)
		return nil
	}
	key := ing.Namespace + "/" + from.Service.Name
	service := c.services[key]
	if service == nil {
		c.problem(ing, "ServiceNotFound", "%s.service.name %q: no such Service in namespace %s", field, from.Service.Name, ing.Namespace)
		return &Backend{Service: key}
	}
	port := servicePort(service, from.Service.Port)
	if port == nil {
		c.problem(ing, "ServicePortNotFound", "%s.service.port %s: Service %s has no such port", field, portText(from.Service.Port), key)
		return &Backend{Service: key}
	}
	name := fmt.Sprintf("%s:%d", key, port.Port)
	if c.backends[name] == nil {
		c.backends[name] = &Backend{Service: name, Endpoints: endpoints(c.slices[key], port)}
	}
	return c.backends[name]
}

func portText(p networkingv1.ServiceBackendPort) string {
	if p.Name != "" {
		return fmt.Sprintf("%q", p.Name)
	}
	return fmt.Sprint(p.Number)
}

func servicePort(s *corev1.Service, want networkingv1.ServiceBackendPort) *corev1.ServicePort {
	for i, p := range s.Spec.Ports {
		if want.Name != "" && p.Name == want.Name || want.Name == "" && p.Port == want.Number {
			return &s.Spec.Ports[i]
		}
	}
	return nil
}
