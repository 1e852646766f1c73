// SPDX-License-Identifier: Apache-2.0

// Package api is a Kubernetes API for tests and benchmarks that holds its
// objects in memory. It answers get, list and watch, in JSON and protobuf, for
// every kind that client-go knows, and empty lists for all others; it takes
// what clients create, update and delete without a question, and ignores
// patches. There is no authentication, no validation and no defaulting. Each
// object is encoded once, however many watch it, so that tens of thousands are
// no burden. All methods may be used from any goroutine.
package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// headerTimeout bounds how long a client may take to ask.
const headerTimeout = 10 * time.Second

// Server is an API. It keeps its objects while it is stopped.
type Server struct {
	store *store

	mu      sync.Mutex
	address string
	http    *http.Server
}

// New makes a Server without objects that does not listen yet.
func New() *Server { return &Server{store: newStore()} }

// Start listens on a TCP address, in the network namespace of the calling
// thread, and serves in the background. Once it was started it has the same
// address whenever it is started again, whatever is given then.
func (s *Server) Start(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return errors.New("start API: it runs already")
	}
	if s.address != "" {
		address = s.address
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("start API: %w", err)
	}
	s.address = listener.Addr().String()
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: headerTimeout}
	go func(server *http.Server) { _ = server.Serve(listener) }(s.http)
	return nil
}

// Stop cuts all connections and does not listen any more.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		_ = s.http.Close()
	}
	s.http = nil
}

// URL is where it was started; empty before.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.address == "" {
		return ""
	}
	return "http://" + s.address
}

// Config is that of a client without limits.
func (s *Server) Config() *rest.Config { return &rest.Config{Host: s.URL(), QPS: -1} }

// WriteKubeconfig writes a kubeconfig for it.
func (s *Server) WriteKubeconfig(path string) error {
	const name = "memory"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: s.URL()}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// Put creates objects or replaces those of their names. Objects must be of
// kinds that client-go knows; they are copied.
func (s *Server) Put(objects ...Object) error {
	for _, obj := range objects {
		if _, err := s.store.put(obj); err != nil {
			return fmt.Errorf("put %T %s/%s: %w", obj, obj.GetNamespace(), obj.GetName(), err)
		}
	}
	return nil
}

// Delete deletes the objects of these kinds and names, if they are there.
func (s *Server) Delete(objects ...Object) error {
	for _, obj := range objects {
		_, resource, err := kindOf(obj)
		if err != nil {
			return fmt.Errorf("delete %T %s/%s: %w", obj, obj.GetNamespace(), obj.GetName(), err)
		}
		s.store.delete(resource, nameOf(obj))
	}
	return nil
}
