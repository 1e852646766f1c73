// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"

	"k8s.io/apiserver/pkg/apis/audit/validation"
	"k8s.io/apiserver/pkg/audit/policy"

	"slipway.dev/slipway/internal/atomicfile"
)

// defaultAuditPolicy tells who has done what, without bodies: they may hold
// secrets. What the components do all the time is left out.
const defaultAuditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*"]
  - level: None
    resources: [{group: coordination.k8s.io, resources: [leases]}, {group: "", resources: [events]}]
  - level: None
    users: ["system:kube-controller-manager", "system:kube-scheduler", "slipway-server"]
    verbs: [get, list, watch]
  - level: None
    userGroups: ["system:nodes", "slipway:agents", "system:serviceaccounts:kube-system"]
    verbs: [get, list, watch]
  - level: Metadata
`

// validateAudit reads the user's policy, so that a mistake in it is told before
// anything starts.
func (c Config) validateAudit() error {
	if c.AuditPolicy == "" {
		return nil
	}
	if c.AuditLog == "" {
		return errors.New("--audit-policy without --audit-log: name the file to log to")
	}
	loaded, err := policy.LoadPolicyFromFile(c.AuditPolicy)
	if err != nil {
		return fmt.Errorf("--audit-policy: %w", err)
	}
	if errs := validation.ValidatePolicy(loaded); len(errs) > 0 {
		return fmt.Errorf("--audit-policy %s: %w", c.AuditPolicy, errs.ToAggregate())
	}
	return nil
}

// auditPolicy is the file with the policy in force.
func (c Config) auditPolicy() (string, error) {
	if c.AuditLog == "" || c.AuditPolicy != "" {
		return c.AuditPolicy, nil
	}
	path := c.run("audit-policy.yaml")
	return path, atomicfile.Write(path, []byte(defaultAuditPolicy), 0o644)
}
