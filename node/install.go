// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/addresspool"
	"slipway.dev/slipway/controller"
	"slipway.dev/slipway/internal/version"
	"slipway.dev/slipway/node/token"
)

// Where servers publish what machines that join must know.
const (
	infoNamespace = metav1.NamespaceSystem
	infoName      = "slipway"
	infoKey       = "cluster.json"
)

// installCluster makes or updates all objects that the cluster needs from us.
// Several servers may do so at once.
func installCluster(ctx context.Context, client kubernetes.Interface, cfg Config) error {
	if err := installRights(ctx, client); err != nil {
		return err
	}
	info := clusterInfo{
		PodCIDRs: cfg.PodCIDRs, ServiceCIDRs: cfg.ServiceCIDRs, Domain: cfg.ClusterDomain, Version: version.Kubernetes,
	}
	data, err := json.Marshal(info)
	if err != nil {
		return err
	}
	err = apply(ctx, client.CoreV1().RESTClient(), "configmaps", &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: infoName, Namespace: infoNamespace},
		Data:       map[string]string{infoKey: string(data)},
	})
	if err != nil {
		return err
	}
	if err := installClasses(ctx, client); err != nil {
		return err
	}
	definitions := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	if err := applyAt(ctx, client.Discovery().RESTClient(), definitions, addresspool.Definition()); err != nil {
		return err
	}
	if err := installMetrics(ctx, client); err != nil {
		return err
	}
	return installDNS(ctx, client, cfg)
}

// installRights lets agents do their work, and machines with a token join.
func installRights(ctx context.Context, client kubernetes.Interface) error {
	rest := client.RbacV1().RESTClient()
	for _, role := range []*rbacv1.ClusterRole{agentRole(), getNodesRole()} {
		if err := apply(ctx, rest, "clusterroles", role); err != nil {
			return err
		}
	}
	for _, b := range clusterBindings() {
		if err := apply(ctx, rest, "clusterrolebindings", b); err != nil {
			return err
		}
	}
	if err := apply(ctx, rest, "roles", infoRole()); err != nil {
		return err
	}
	return apply(ctx, rest, "rolebindings", infoBinding())
}

// apply is a server-side apply (KEP-555) that takes over the fields it sets.
func apply(ctx context.Context, client rest.Interface, resource string, object metav1.Object) error {
	return patch(ctx, object, resource, func() *rest.Request {
		return client.Patch(types.ApplyPatchType).
			NamespaceIfScoped(object.GetNamespace(), object.GetNamespace() != "").
			Resource(resource).Name(object.GetName())
	})
}

// applyAt is apply for an object of an API that the client has no type for.
func applyAt(ctx context.Context, client rest.Interface, path string, object metav1.Object) error {
	return patch(ctx, object, path, func() *rest.Request {
		return client.Patch(types.ApplyPatchType).AbsPath(path, object.GetName())
	})
}

// patch sends the object with a request that leads to it, and calls it kind in
// errors.
func patch(ctx context.Context, object metav1.Object, kind string, to func() *rest.Request) error {
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	err = insist(ctx, func(ctx context.Context) error {
		return to().Param("fieldManager", "slipway").Param("force", "true").Body(data).Do(ctx).Error()
	})
	if err != nil {
		return fmt.Errorf("install %s %s: %w", kind, object.GetName(), err)
	}
	return nil
}

func rule(group string, resources, verbs []string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
}

// agentRole is what the data plane of every node may do.
func agentRole() *rbacv1.ClusterRole {
	read := []string{"get", "list", "watch"}
	write := []string{"create", "update", "patch", "delete"}
	return clusterRole("slipway:agent",
		// Service proxy, ingress, names.
		rule("", []string{"services", "namespaces", "nodes", "pods", "secrets", "configmaps"}, read),
		rule("discovery.k8s.io", []string{"endpointslices"}, append(read, write...)),
		rule("networking.k8s.io", []string{"ingresses", "ingressclasses", "networkpolicies", "servicecidrs"}, read),
		rule("networking.k8s.io", []string{"ingresses/status"}, []string{"update", "patch"}),
		rule("", []string{"nodes"}, []string{"patch"}),
		rule("", []string{"services/status", "nodes/status"}, []string{"update", "patch"}),
		rule("slipway.dev", []string{"addresspools"}, read),
		// Volumes.
		rule("", []string{"persistentvolumes", "persistentvolumeclaims"}, append(read, write...)),
		rule("", []string{"persistentvolumeclaims/status"}, []string{"update", "patch"}),
		rule("storage.k8s.io", []string{"storageclasses", "csinodes", "csidrivers", "volumeattachments"}, read),
		// Elections, and what users look at.
		rule("coordination.k8s.io", []string{"leases"}, append(read, write...)),
		rule("", []string{"events"}, []string{"create", "update", "patch"}),
		rule("events.k8s.io", []string{"events"}, []string{"create", "update", "patch"}),
	)
}

// getNodesRole lets a machine that joins see whether its name is taken.
func getNodesRole() *rbacv1.ClusterRole {
	return clusterRole("slipway:get-nodes", rule("", []string{"nodes"}, []string{"get"}))
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules,
	}
}

// clusterBindings are the rights of agents, and those that kubelets need for
// TLS bootstrapping, as kubeadm gives them.
func clusterBindings() []*rbacv1.ClusterRoleBinding {
	const csr = "system:certificates.k8s.io:certificatesigningrequests:"
	var all []*rbacv1.ClusterRoleBinding
	for _, b := range []struct{ name, role, group string }{
		{"slipway:agents", "slipway:agent", controller.AgentGroup},
		{"slipway:join", "system:node-bootstrapper", token.Group},
		{"slipway:join-get-nodes", "slipway:get-nodes", token.Group},
		{"slipway:join-approve", csr + "nodeclient", token.Group},
		{"slipway:rotate-approve", csr + "selfnodeclient", "system:nodes"},
	} {
		all = append(all, &rbacv1.ClusterRoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
			ObjectMeta: metav1.ObjectMeta{Name: b.name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: b.role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: b.group}},
		})
	}
	return all
}

// infoRole lets machines that join read what they must know.
func infoRole() *rbacv1.Role {
	get := rule("", []string{"configmaps"}, []string{"get"})
	get.ResourceNames = []string{infoName}
	return &rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
		ObjectMeta: metav1.ObjectMeta{Name: "slipway:join", Namespace: infoNamespace},
		Rules:      []rbacv1.PolicyRule{get},
	}
}

func infoBinding() *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: "slipway:join", Namespace: infoNamespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "slipway:join"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: token.Group}},
	}
}
