// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// auditEvent is what a line of the audit log says.
type auditEvent struct {
	Level, Verb                   string
	User                          struct{ Username string }
	ObjectRef                     struct{ Resource, Name string }
	RequestObject, ResponseObject json.RawMessage
}

// testAudit starts the server with an audit log: it tells who has made and read
// a Secret, and what is in none.
func testAudit(t *testing.T, c *cluster) {
	path := filepath.Join(t.TempDir(), "new", "audit.log")
	restart := func(args ...string) {
		t.Helper()
		kill9(t, c.pid(t, "slipway"))
		if r := c.run(t, upTimeout, append([]string{"up", "--detach"}, args...)...); r.status != 0 {
			t.Fatalf("up %v: %s%s", args, r.stdout, r.stderr)
		}
	}
	restart("--audit-log=" + path)
	// The next test finds a server without.
	defer restart()
	c.kubectl(t, "create", "secret", "generic", "audited", "--from-literal=key=plain-text-of-a-secret")
	c.kubectl(t, "get", "secret", "audited")
	c.kubectl(t, "delete", "secret", "audited")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log is %v, %v", info, err)
	}
	verbs := map[string]bool{}
	for _, event := range readAudit(t, path) {
		if event.ObjectRef.Resource == "secrets" && event.ObjectRef.Name == "audited" && event.User.Username == "slipway-admin" {
			verbs[event.Verb] = true
		}
		if event.Level != "Metadata" || event.RequestObject != nil || event.ResponseObject != nil {
			t.Errorf("content of a request is logged: %+v", event)
		}
	}
	if !verbs["create"] || !verbs["get"] || !verbs["delete"] {
		t.Errorf("of the Secret are logged %v", verbs)
	}
}

func readAudit(t *testing.T, path string) []auditEvent {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var events []auditEvent
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event auditEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
		events = append(events, event)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}
