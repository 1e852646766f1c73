// SPDX-License-Identifier: Apache-2.0

// Package churn holds the test that changes Services and endpoints at random
// under load, while the agent is killed and upgraded and the API goes away, and
// a model that knows what must be reachable. It has tests only.
package churn
