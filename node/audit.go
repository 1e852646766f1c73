// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/audit/policy"

	"slipway.dev/slipway/internal/atomicfile"
)

// defaultAuditPolicy tells who has done what, without bodies: they may hold
// secrets. What the components read and renew all the time is left out.
const defaultAuditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/metrics", "/version", "/api*", "/openapi*"]
  - level: None
    resources: [{group: coordination.k8s.io, resources: [leases]}, {group: "", resources: [events]}, {group: events.k8s.io, resources: [events]}]
  - level: None
    users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "slipway-server"]
    verbs: [get, list, watch]
  - level: None
    userGroups: ["system:nodes", "slipway:agents", "system:serviceaccounts:kube-system"]
    verbs: [get, list, watch]
  - level: None
    resources: [{group: authentication.k8s.io, resources: [tokenreviews]}, {group: authorization.k8s.io, resources: [subjectaccessreviews]}]
  - level: Metadata
`

// validateAudit reads the user's policy, so that a mistake in it is told before
// anything starts.
func (c Config) validateAudit() error {
	for flag, path := range map[string]string{"--audit-log": c.AuditLog, "--audit-policy": c.AuditPolicy} {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("%s %q: expected an absolute path", flag, path)
		}
	}
	if c.AuditLog == "" && c.AuditPolicy != "" {
		return errors.New("--audit-policy without --audit-log: name the file to log to")
	}
	if info, err := os.Stat(c.AuditLog); err == nil && info.IsDir() {
		return fmt.Errorf("--audit-log %s: it is a directory, expected a file", c.AuditLog)
	}
	if c.AuditPolicy == "" {
		return nil
	}
	data, err := os.ReadFile(c.AuditPolicy)
	if err != nil {
		return fmt.Errorf("--audit-policy: %w", err)
	}
	if err := checkAuditPolicy(data); err != nil {
		return fmt.Errorf("--audit-policy %s: %w", c.AuditPolicy, err)
	}
	return nil
}

// checkAuditPolicy also refuses fields that there are not, which the API server
// only warns of: a rule that lacks one for a slip of the pen selects more, or
// less, than it was meant to.
func checkAuditPolicy(data []byte) error {
	strict := serializer.NewCodecFactory(audit.Scheme, serializer.EnableStrict).UniversalDecoder()
	if _, _, err := strict.Decode(data, nil, &auditinternal.Policy{}); runtime.IsStrictDecodingError(err) {
		return err
	}
	_, err := policy.LoadPolicyFromBytes(data)
	return err
}

// auditPolicy is the file with the policy in force.
func (c Config) auditPolicy() (string, error) {
	if c.AuditLog == "" || c.AuditPolicy != "" {
		return c.AuditPolicy, nil
	}
	path := c.run("audit-policy.yaml")
	return path, atomicfile.Write(path, []byte(defaultAuditPolicy), 0o644)
}
