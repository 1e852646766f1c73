// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/csi"
	"slipway.dev/slipway/ingress"
)

// installClasses makes the objects that tell users of the cluster what the
// data plane offers. Classes that a user has changed stay as they are.
func installClasses(ctx context.Context, client kubernetes.Interface) error {
	options := metav1.CreateOptions{FieldManager: "slipway"}
	for name, create := range map[string]func(context.Context) error{
		"CSIDriver": func(ctx context.Context) error {
			_, err := client.StorageV1().CSIDrivers().Create(ctx, csi.CSIDriverObject(), options)
			return err
		},
		"StorageClass": func(ctx context.Context) error {
			_, err := client.StorageV1().StorageClasses().Create(ctx, csi.StorageClassObject(), options)
			return err
		},
		"IngressClass": func(ctx context.Context) error {
			_, err := client.NetworkingV1().IngressClasses().Create(ctx, ingress.Class(true), options)
			return err
		},
	} {
		if err := insist(ctx, create); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("install %s: %w", name, err)
		}
	}
	return nil
}

// installDNS makes the Service that pods ask for names.
func installDNS(ctx context.Context, client kubernetes.Interface, cfg Config) error {
	return apply(ctx, client.CoreV1().RESTClient(), "services", dnsService(cfg))
}

// publishDNS makes the Service kube-dns lead to the addresses that the DNS
// server in this process listens on.
func publishDNS(ctx context.Context, client kubernetes.Interface, cfg Config, serving []netip.Addr) error {
	for _, slice := range dnsSlices(cfg.NodeName, serving) {
		if err := apply(ctx, client.DiscoveryV1().RESTClient(), "endpointslices", slice); err != nil {
			return err
		}
	}
	return nil
}

const dnsName = "kube-dns"

func dnsService(cfg Config) *corev1.Service {
	var ips []string
	var families []corev1.IPFamily
	for _, addr := range cfg.dnsAddresses() {
		ips = append(ips, addr.String())
		if addr.Is4() {
			families = append(families, corev1.IPv4Protocol)
		} else {
			families = append(families, corev1.IPv6Protocol)
		}
	}
	return &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Name: dnsName, Namespace: metav1.NamespaceSystem,
			Labels: map[string]string{"k8s-app": dnsName, "kubernetes.io/name": "CoreDNS"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ips[0], ClusterIPs: ips, IPFamilies: families,
			IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack),
			Ports: []corev1.ServicePort{
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
				{Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP},
			},
		},
	}
}

// dnsSlices has one EndpointSlice for each family that is served.
func dnsSlices(nodeName string, serving []netip.Addr) []*discoveryv1.EndpointSlice {
	var slices []*discoveryv1.EndpointSlice
	for _, addr := range serving {
		family, name := discoveryv1.AddressTypeIPv4, dnsName+"-"+nodeName+"-ipv4"
		if addr.Is6() {
			family, name = discoveryv1.AddressTypeIPv6, dnsName+"-"+nodeName+"-ipv6"
		}
		slices = append(slices, &discoveryv1.EndpointSlice{
			TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Namespace: metav1.NamespaceSystem,
				Labels: map[string]string{
					discoveryv1.LabelServiceName: dnsName, discoveryv1.LabelManagedBy: "slipway.dev",
				},
			},
			AddressType: family,
			Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{addr.String()}, NodeName: &nodeName,
				Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			}},
			Ports: []discoveryv1.EndpointPort{
				{Name: new("dns"), Port: new(int32(53)), Protocol: new(corev1.ProtocolUDP)},
				{Name: new("dns-tcp"), Port: new(int32(53)), Protocol: new(corev1.ProtocolTCP)},
			},
		})
	}
	return slices
}
