// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/controller-manager/pkg/clientbuilder"
	controllerhealthz "k8s.io/controller-manager/pkg/healthz"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/config"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	tokens "k8s.io/kubernetes/pkg/serviceaccount"
)

// run builds the controllers, calls built, and runs them until ctx ends. It is
// upstream's app.Run without ports and leader election.
func run(ctx context.Context, conf *config.CompletedConfig, built func()) error {
	conf.EventBroadcaster.StartRecordingToSink(&v1.EventSinkImpl{Interface: conf.Client.CoreV1().Events("")})
	defer conf.EventBroadcaster.Shutdown()
	all := clientbuilder.SimpleControllerClientBuilder{ClientConfig: conf.Kubeconfig}
	// Each controller has the rights of its own service account.
	each := clientbuilder.NewDynamicClientBuilder(rest.AnonymousClientConfig(conf.Kubeconfig), conf.Client.CoreV1(), metav1.NamespaceSystem)
	shared, err := app.CreateControllerContext(ctx, conf, all, each)
	if err != nil {
		return fmt.Errorf("prepare controllers: %w", err)
	}
	controllers, err := build(ctx, shared, all)
	if err != nil {
		return err
	}
	built()
	shared.InformerFactory.Start(ctx.Done())
	defer shared.InformerFactory.Shutdown()
	shared.ObjectOrMetadataInformerFactory.Start(ctx.Done())
	close(shared.InformersStarted)
	if !app.RunControllers(ctx, shared, controllers, app.ControllerStartJitter, conf.ControllerShutdownTimeout) {
		return errors.New("controllers did not stop in time")
	}
	return nil
}

func build(ctx context.Context, shared app.ControllerContext, all clientbuilder.ControllerClientBuilder) ([]app.Controller, error) {
	descriptors := app.NewControllerDescriptors()
	// Upstream too builds this one apart, with the rights of the manager.
	delete(descriptors, names.ServiceAccountTokenController)
	controllers, err := app.BuildControllers(ctx, shared, descriptors, nil, controllerhealthz.NewMutableHealthzHandler())
	if err != nil {
		return nil, fmt.Errorf("build controllers: %w", err)
	}
	token, err := newTokenController(ctx, shared, all)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", names.ServiceAccountTokenController, err)
	}
	return append(controllers, token), nil
}

// tokenController fills in Secrets of type kubernetes.io/service-account-token.
type tokenController struct {
	*serviceaccount.TokensController
	workers int
}

func newTokenController(ctx context.Context, shared app.ControllerContext, all clientbuilder.ControllerClientBuilder) (*tokenController, error) {
	settings := shared.ComponentConfig.SAController
	key, err := keyutil.PrivateKeyFromFile(settings.ServiceAccountKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read key of service-account tokens: %w", err)
	}
	authority, err := os.ReadFile(settings.RootCAFile)
	if err != nil {
		return nil, fmt.Errorf("read root authority: %w", err)
	}
	client, err := all.Client("tokens-controller")
	if err != nil {
		return nil, err
	}
	generator, err := tokens.JWTTokenGenerator(tokens.LegacyIssuer, key)
	if err != nil {
		return nil, err
	}
	core := shared.InformerFactory.Core().V1()
	controller, err := serviceaccount.NewTokensController(klog.FromContext(ctx), core.ServiceAccounts(), core.Secrets(), client,
		serviceaccount.TokensControllerOptions{TokenGenerator: generator, RootCA: authority})
	if err != nil {
		return nil, err
	}
	return &tokenController{TokensController: controller, workers: int(settings.ConcurrentSATokenSyncs)}, nil
}

// Name returns upstream's name of the controller.
func (*tokenController) Name() string { return names.ServiceAccountTokenController }

// Run runs the controller until ctx ends.
func (c *tokenController) Run(ctx context.Context) { c.TokensController.Run(ctx, c.workers) }
