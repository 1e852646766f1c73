// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// Approver approves the certificate signing requests of nodes that upstream's
// controllers leave to people: those for the kubelet's server certificate and
// for the agent's identity. A request that asks for more than its node is
// entitled to is left as it is, and logged.
type Approver struct {
	client kubernetes.Interface
	log    *slog.Logger
}

// NewApprover returns an Approver.
func NewApprover(client kubernetes.Interface, log *slog.Logger) *Approver {
	return &Approver{client: client, log: log}
}

// Run approves until ctx ends. Several servers may run it at once.
func (a *Approver) Run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](200*time.Millisecond, time.Minute))
	factory := informers.NewSharedInformerFactory(a.client, 0)
	informer := factory.Certificates().V1().CertificateSigningRequests().Informer()
	enqueue := func(obj any) {
		if csr, ok := obj.(*certificatesv1.CertificateSigningRequest); ok && isOpen(csr) && isOurs(csr) {
			queue.Add(csr.Name)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, UpdateFunc: func(_, obj any) { enqueue(obj) },
	})
	if err != nil {
		return fmt.Errorf("watch certificate signing requests: %w", err)
	}
	stop := context.AfterFunc(ctx, queue.ShutDown)
	defer stop()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	wait.UntilWithContext(ctx, func(ctx context.Context) { a.work(ctx, queue) }, time.Second)
	return nil
}

func (a *Approver) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) {
	for {
		name, quit := queue.Get()
		if quit {
			return
		}
		err := a.handle(ctx, name)
		var denied *deniedError
		switch {
		case err == nil || errors.As(err, &denied):
			if err != nil {
				a.log.Warn("certificate signing request not approved", "name", name, "err", err)
			}
			queue.Forget(name)
		default:
			queue.AddRateLimited(name)
		}
		queue.Done(name)
	}
}

// handle approves one request when its node is entitled to it.
func (a *Approver) handle(ctx context.Context, name string) error {
	csr, err := a.client.CertificatesV1().CertificateSigningRequests().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && !isOpen(csr)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get request: %w", err)
	}
	nodes, err := a.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	if err := entitled(csr, nodes.Items); err != nil {
		return err
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "NodeEntitled",
		Message: "Slipway approves what a node asks for itself.",
	})
	_, err = a.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, name, csr, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("approve: %w", err)
	}
	return nil
}

// isOpen tells whether nobody has decided about the request.
func isOpen(csr *certificatesv1.CertificateSigningRequest) bool {
	return len(csr.Status.Conditions) == 0 && len(csr.Status.Certificate) == 0
}

// isOurs tells whether the request is of a kind that is decided here.
func isOurs(csr *certificatesv1.CertificateSigningRequest) bool {
	switch csr.Spec.SignerName {
	case certificatesv1.KubeletServingSignerName:
		return true
	case certificatesv1.KubeAPIServerClientSignerName:
		req, err := parseRequest(csr.Spec.Request)
		return err == nil && len(req.Subject.Organization) == 1 && req.Subject.Organization[0] == AgentGroup
	}
	return false
}
