// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// lean takes out of an object what no part of the data plane reads, before an
// informer keeps it: with many endpoints that is most of the memory.
func lean(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		leanService(o)
	case *discoveryv1.EndpointSlice:
		leanSlice(o)
	}
	return obj, nil
}

func leanService(s *corev1.Service) {
	s.ManagedFields, s.Spec.Selector = nil, nil
	packService(s)
	// Address pools select these by label, and give addresses by family.
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return
	}
	s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = nil, nil
	s.Labels = only(s.Labels, serviceProxyName, corev1.IsHeadlessService)
}

func packService(s *corev1.Service) {
	spec := &s.Spec
	pack(&s.Name, (*string)(&s.UID), &s.ResourceVersion, &spec.ClusterIP)
	if len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] == spec.ClusterIP {
		spec.ClusterIPs[0] = spec.ClusterIP
	}
	s.Namespace, spec.Type, spec.SessionAffinity = once(s.Namespace), once(spec.Type), once(spec.SessionAffinity)
	spec.ExternalTrafficPolicy, spec.InternalTrafficPolicy = once(spec.ExternalTrafficPolicy), same(spec.InternalTrafficPolicy, &cluster, &local)
	for i := range spec.Ports {
		p := &spec.Ports[i]
		p.Name, p.Protocol, p.TargetPort.StrVal = once(p.Name), once(p.Protocol), once(p.TargetPort.StrVal)
	}
}

// leanSlice leaves the labels that are read and, of each endpoint, addresses,
// conditions, place and hints.
func leanSlice(s *discoveryv1.EndpointSlice) {
	s.ManagedFields, s.OwnerReferences, s.GenerateName = nil, nil, ""
	service, has := s.Labels[discoveryv1.LabelServiceName]
	pack(&s.Name, (*string)(&s.UID), &s.ResourceVersion, &service)
	s.Labels = only(s.Labels, discoveryv1.LabelServiceName, corev1.IsHeadlessService)
	if has {
		s.Labels[discoveryv1.LabelServiceName] = service
	}
	s.Namespace, s.AddressType, s.Ports = once(s.Namespace), once(s.AddressType), packPorts(s.Ports)
	packed := packerFor(s.Endpoints)
	// As long as it must be: decoders leave room behind.
	endpoints := make([]discoveryv1.Endpoint, len(s.Endpoints))
	for i, e := range s.Endpoints {
		c := e.Conditions
		endpoints[i] = discoveryv1.Endpoint{
			Addresses:  packed.addresses(e.Addresses),
			Conditions: discoveryv1.EndpointConditions{Ready: same(c.Ready, &yes, &no), Serving: same(c.Serving, &yes, &no), Terminating: same(c.Terminating, &yes, &no)},
			NodeName:   packed.name(e.NodeName), Zone: packed.name(e.Zone), Hints: e.Hints,
		}
	}
	s.Endpoints = endpoints
}

// only leaves the labels that are read; nil when there are none.
func only(labels map[string]string, read ...string) map[string]string {
	var out map[string]string
	for _, name := range read {
		value, has := labels[name]
		if !has {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = value
	}
	return out
}
