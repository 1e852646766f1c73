// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/feature"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// inProcess keeps objects in the etcd of this process by calling it. Upstream
// opens a connection for each type of object, with buffers and goroutines at
// both ends of it; what is done with etcd is the same.
type inProcess struct {
	etcd      *Etcd
	compactor func() etcd3.Compactor
}

// useInProcess makes all parts of the API server call etcd.
func useInProcess(ctx context.Context, conf *app.Config, etcd *Etcd) {
	interval := conf.Options.Etcd.StorageConfig.CompactionInterval
	p := &inProcess{etcd: etcd, compactor: sync.OnceValue(func() etcd3.Compactor { return startCompactor(ctx, etcd, interval) })}
	feature.DefaultFeatureSupportChecker.CheckClient(ctx, endpoint{etcd.client()}, storage.RequestWatchProgress)
	for _, at := range []*generic.RESTOptionsGetter{
		&conf.KubeAPIs.ControlPlane.Generic.RESTOptionsGetter,
		&conf.ApiExtensions.GenericConfig.RESTOptionsGetter,
		&conf.ApiExtensions.ExtraConfig.CRDRESTOptionsGetter,
		&conf.Aggregator.GenericConfig.RESTOptionsGetter,
	} {
		*at = inProcessOptions{next: *at, storage: p}
	}
}

func startCompactor(ctx context.Context, etcd *Etcd, interval time.Duration) etcd3.Compactor {
	c := etcd3.StartCompactorPerEndpoint(etcd.client(), interval)
	context.AfterFunc(ctx, c.Stop)
	return c
}

// client returns a client that calls etcd without a connection.
func (e *Etcd) client() *clientv3.Client { return v3client.New(e.server.Server) }

// endpoint is what finds out about features expects: a client with a name for
// the other end.
type endpoint struct{ *clientv3.Client }

func (endpoint) Endpoints() []string { return []string{"in-process"} }

// inProcessOptions are those of next, with storage in this process.
type inProcessOptions struct {
	next    generic.RESTOptionsGetter
	storage *inProcess
}

// GetRESTOptions returns how objects of a type are kept.
func (o inProcessOptions) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	options, err := o.next.GetRESTOptions(resource, example)
	if err != nil {
		return options, err
	}
	options.Decorator = o.storage.cached
	// Upstream too keeps no events in memory.
	if resource.Resource == "events" {
		options.Decorator = o.storage.uncached
	}
	return options, nil
}

func (p *inProcess) uncached(
	config *storagebackend.ConfigForResource, prefix string, _ func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, _ storage.AttrFunc, _ storage.IndexerFuncs, _ *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	return p.open(config, prefix, newFunc, newListFunc)
}

func (p *inProcess) cached(
	config *storagebackend.ConfigForResource, prefix string, keyFunc func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, attrs storage.AttrFunc, triggers storage.IndexerFuncs, indexers *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	store, closeStore, err := p.open(config, prefix, newFunc, newListFunc)
	if err != nil {
		return nil, nil, err
	}
	watched, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage: store, Versioner: storage.APIObjectVersioner{}, Codec: config.Codec,
		GroupResource: config.GroupResource, EventsHistoryWindow: config.EventsHistoryWindow,
		ResourcePrefix: prefix, KeyFunc: keyFunc, NewFunc: newFunc, NewListFunc: newListFunc,
		GetAttrsFunc: attrs, IndexerFuncs: triggers, Indexers: indexers,
	})
	if err != nil {
		closeStore()
		return nil, nil, fmt.Errorf("cache %s: %w", config.GroupResource, err)
	}
	delegator := cacher.NewCacheDelegator(watched, store)
	// Subresources share the storage, and each closes it.
	return delegator, sync.OnceFunc(func() {
		delegator.Stop()
		watched.Stop()
		closeStore()
	}), nil
}

// open makes the storage of one type of object.
func (p *inProcess) open(
	config *storagebackend.ConfigForResource, prefix string, newFunc, newListFunc func() runtime.Object,
) (storage.Interface, factory.DestroyFunc, error) {
	client := &kubernetes.Client{Client: p.etcd.client()}
	client.Kubernetes = client
	client.KV = etcd3.NewETCDLatencyTracker(client.KV)
	transformer := config.Transformer
	if transformer == nil {
		transformer = identity.NewEncryptCheckTransformer()
	}
	versioner := storage.APIObjectVersioner{}
	store, err := etcd3.New(client, p.compactor(), config.Codec, newFunc, newListFunc, config.Prefix, prefix, config.GroupResource,
		etcd3.WithCorruptObjErrorHandlingTransformer(transformer), config.LeaseManagerConfig,
		etcd3.WithCorruptObjErrorHandlingDecoder(etcd3.NewDefaultDecoder(config.Codec, versioner)), versioner)
	if err != nil {
		return nil, nil, fmt.Errorf("open storage of %s: %w", config.GroupResource, err)
	}
	return etcd3.NewStoreWithUnsafeCorruptObjectDeletion(store, config.GroupResource), sync.OnceFunc(func() {
		store.Close()
		client.Close()
	}), nil
}
