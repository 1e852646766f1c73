// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// rolesAtOnce is how many roles and bindings are reconciled at a time.
const rolesAtOnce = 8

// reconcileRoles makes the roles and bindings that every cluster has: all of them
// in a new cluster, and what was changed in one that has all. It does nothing to a
// cluster that has others: upstream knows how to move it.
func reconcileRoles(hook server.PostStartHookContext, client kubernetes.Interface) (bool, error) {
	roles := append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...)
	bindings := append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...)
	if simple, err := newOrComplete(hook, client, roles, bindings); !simple || err != nil {
		return simple, err
	}
	group := new(errgroup.Group)
	group.SetLimit(rolesAtOnce)
	for _, role := range roles {
		reconcileRole(group, reconciliation.ClusterRoleRuleOwner{ClusterRole: &role}, reconciliation.ClusterRoleModifier{Client: client.RbacV1().ClusterRoles()})
	}
	for _, binding := range bindings {
		reconcileBinding(group, reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: &binding},
			reconciliation.ClusterRoleBindingClientAdapter{Client: client.RbacV1().ClusterRoleBindings()})
	}
	for _, role := range slices.Concat(values(bootstrappolicy.NamespaceRoles())...) {
		reconcileRole(group, reconciliation.RoleRuleOwner{Role: &role},
			reconciliation.RoleModifier{Client: client.RbacV1(), NamespaceClient: client.CoreV1().Namespaces()})
	}
	for _, binding := range slices.Concat(values(bootstrappolicy.NamespaceRoleBindings())...) {
		reconcileBinding(group, reconciliation.RoleBindingAdapter{RoleBinding: &binding},
			reconciliation.RoleBindingClientAdapter{Client: client.RbacV1(), NamespaceClient: client.CoreV1().Namespaces()})
	}
	return true, group.Wait()
}

func values[V any](of map[string][]V) [][]V {
	var out [][]V
	for _, v := range of {
		out = append(out, v)
	}
	return out
}

// newOrComplete tells whether the cluster has none of the roles and bindings,
// or all by their names.
func newOrComplete(ctx context.Context, client kubernetes.Interface, roles []rbacv1.ClusterRole, bindings []rbacv1.ClusterRoleBinding) (bool, error) {
	haveRoles, err := client.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("list cluster roles: %w", err)
	}
	haveBindings, err := client.RbacV1().ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("list cluster role bindings: %w", err)
	}
	have, want := sets.New[string](), sets.New[string]()
	for _, r := range haveRoles.Items {
		have.Insert("role " + r.Name)
	}
	for _, b := range haveBindings.Items {
		have.Insert("binding " + b.Name)
	}
	for _, r := range roles {
		want.Insert("role " + r.Name)
	}
	for _, b := range bindings {
		want.Insert("binding " + b.Name)
	}
	return have.IsSuperset(want) || have.Intersection(want).Len() == 0, nil
}

func reconcileRole(group *errgroup.Group, role reconciliation.RuleOwner, client reconciliation.RuleOwnerModifier) {
	group.Go(func() error {
		options := reconciliation.ReconcileRoleOptions{Role: role, Client: client, Confirm: true}
		if _, err := options.Run(); err != nil {
			return fmt.Errorf("reconcile role %s: %w", role.GetName(), err)
		}
		return nil
	})
}

func reconcileBinding(group *errgroup.Group, binding reconciliation.RoleBinding, client reconciliation.RoleBindingModifier) {
	group.Go(func() error {
		options := reconciliation.ReconcileRoleBindingOptions{RoleBinding: binding, Client: client, Confirm: true}
		if _, err := options.Run(); err != nil {
			return fmt.Errorf("reconcile role binding %s: %w", binding.GetName(), err)
		}
		return nil
	})
}
