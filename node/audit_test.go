// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidateAudit(t *testing.T) {
	if err := checkAuditPolicy([]byte(defaultAuditPolicy)); err != nil {
		t.Error(err)
	}
	const head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
	for name, tt := range map[string]struct{ content, says string }{
		"whole":         {head + "rules: [{level: Metadata}]\n", ""},
		"no such level": {head + "rules: [{level: Everything}]\n", "rules[0].level"},
		"no such field": {head + "rules: [{level: None}, {level: None, user: [me]}]\n", `rules[1].user`},
		"wrong type":    {head + "rules: {level: Metadata}\n", "rules"},
		"no rules":      {head, "0 rules"},
		"another kind":  {"apiVersion: v1\nkind: Pod\n", "Pod"},
		"old version":   {"apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]\n", "audit.k8s.io/v1beta1"},
		"no YAML":       {"\t{", "yaml"},
		"empty":         {"", "Kind"},
		"group and URL": {head + "rules: [{level: None, nonResourceURLs: [/x], resources: [{group: apps}]}]\n", "rules[0]"},
	} {
		cfg := Config{AuditLog: "/var/log/audit.log", AuditPolicy: filepath.Join(t.TempDir(), "policy.yaml")}
		if err := os.WriteFile(cfg.AuditPolicy, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		err := cfg.validateAudit()
		if tt.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), cfg.AuditPolicy) {
			t.Errorf("%s: error %v, expected one with %q and the file", name, err, tt.says)
		}
	}
	for says, cfg := range map[string]Config{
		"--audit-policy without --audit-log":   {AuditPolicy: "/policy.yaml"},
		`--audit-log "a.log": expected an abs`: {AuditLog: "a.log"},
		`--audit-policy "p": expected an abs`:  {AuditLog: "/a.log", AuditPolicy: "p"},
		"--audit-log /: it is a directory":     {AuditLog: "/"},
		"open /nowhere/p: no such file":        {AuditLog: "/a.log", AuditPolicy: "/nowhere/p"},
	} {
		if err := cfg.validateAudit(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, expected %q", err, says)
		}
	}
}
