// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
)

// quickHooks make the objects that every cluster has. Upstream's hooks of these
// names wait a second before they begin, and the API server is not ready before
// they end. A quick one begins at once and tells whether all is done; what it
// leaves, and what fails, is left to upstream's.
var quickHooks = []struct {
	upstream server.PostStartHookProvider
	name     string
	quick    func(server.PostStartHookContext, kubernetes.Interface) (done bool, err error)
}{
	{rbacrest.RESTStorageProvider{}, rbacrest.PostStartHookName, reconcileRoles},
	{schedulingrest.RESTStorageProvider{}, schedulingrest.PostStartHookName, makePriorityClasses},
}

// disableSlowHooks keeps upstream's hooks from being added.
func disableSlowHooks(conf *server.Config) {
	for _, hook := range quickHooks {
		conf.DisabledPostStartHooks.Insert(hook.name)
	}
}

// addQuickHooks adds hooks in place of those that are disabled.
func addQuickHooks(to *server.GenericAPIServer) error {
	for _, hook := range quickHooks {
		name, upstream, err := hook.upstream.PostStartHook()
		if err != nil {
			return fmt.Errorf("hook %s: %w", hook.name, err)
		}
		err = to.AddPostStartHook("slipway/"+name, func(ctx server.PostStartHookContext) error {
			client, err := kubernetes.NewForConfig(ctx.LoopbackClientConfig)
			if err != nil {
				return fmt.Errorf("hook %s: %w", name, err)
			}
			done, err := hook.quick(ctx, client)
			if done && err == nil {
				return nil
			}
			if err != nil {
				klog.ErrorS(err, "Objects of the cluster are not complete, trying again", "hook", name)
			}
			return upstream(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func makePriorityClasses(ctx server.PostStartHookContext, client kubernetes.Interface) (bool, error) {
	classes := client.SchedulingV1().PriorityClasses()
	for _, class := range schedulingv1.SystemPriorityClasses() {
		if _, err := classes.Create(ctx, class, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return false, fmt.Errorf("create priority class %s: %w", class.Name, err)
		}
	}
	return true, nil
}
