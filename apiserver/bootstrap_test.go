// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

func hookContext(t *testing.T) server.PostStartHookContext {
	return server.PostStartHookContext{Context: t.Context()}
}

func TestReconcileRolesOfNewCluster(t *testing.T) {
	client := fake.NewClientset()
	// The second time all are there, and one was changed.
	for range 2 {
		done, err := reconcileRoles(hookContext(t), client)
		if !done || err != nil {
			t.Fatalf("done %v, error %v", done, err)
		}
		admin, err := client.RbacV1().ClusterRoles().Get(t.Context(), "cluster-admin", metav1.GetOptions{})
		if err != nil || len(admin.Rules) == 0 {
			t.Fatalf("cluster-admin has rules %v, error %v", admin.Rules, err)
		}
		if _, err := client.RbacV1().RoleBindings("kube-system").Get(t.Context(), "system:controller:bootstrap-signer", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		admin.Rules = nil
		if _, err := client.RbacV1().ClusterRoles().Update(t.Context(), admin, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A cluster of another release has some of the roles: it is left to upstream.
func TestReconcileRolesOfOtherRelease(t *testing.T) {
	client := fake.NewClientset(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "cluster-admin"}})
	done, err := reconcileRoles(hookContext(t), client)
	if done || err != nil {
		t.Fatalf("done %v, error %v", done, err)
	}
	list, err := client.RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("%d cluster roles, error %v, expected the one from before", len(list.Items), err)
	}
}

func TestReconcileRolesFails(t *testing.T) {
	client, refused := fake.NewClientset(), errors.New("refused")
	client.PrependReactor("create", "roles", func(ktesting.Action) (bool, runtime.Object, error) { return true, nil, refused })
	if _, err := reconcileRoles(hookContext(t), client); !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
}

func TestMakePriorityClasses(t *testing.T) {
	client := fake.NewClientset()
	for range 2 {
		if done, err := makePriorityClasses(hookContext(t), client); !done || err != nil {
			t.Fatalf("done %v, error %v", done, err)
		}
	}
	list, err := client.SchedulingV1().PriorityClasses().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 {
		t.Errorf("%d priority classes, error %v", len(list.Items), err)
	}
}
