// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package conformance pins what the conformance run is built from.
package conformance

import (
	_ "github.com/coredns/coredns"
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
	_ "k8s.io/sample-apiserver"
)
