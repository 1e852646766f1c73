// SPDX-License-Identifier: Apache-2.0

// Package version tells which release this is and what it bundles.
package version

// Version is the release of Slipway; the build stamps it.
var Version = "dev"

// Kubernetes is the version of the bundled Kubernetes packages.
const Kubernetes = "v1.37.2"
