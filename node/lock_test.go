// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"os"
	"strings"
	"testing"

	"slipway.dev/slipway/internal/version"
)

func TestLockTellsTheHolder(t *testing.T) {
	c := valid()
	c.DataDir = t.TempDir()
	if _, held := Holder(c); held {
		t.Fatal("held before anybody took it")
	}
	lock, err := lockData(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockData(c)
	var running *RunningError
	if !errors.As(err, &running) || running.PID != os.Getpid() {
		t.Fatalf("got %v, expected an error that names process %d", err, os.Getpid())
	}
	if id, held := Holder(c); !held || id.PID != os.Getpid() {
		t.Errorf("holder is %v %v, expected process %d", id, held, os.Getpid())
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, held := Holder(c); held {
		t.Error("held after the lock was given back")
	}
}

func TestDataVersion(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"new":    {"", ""},
		"same":   {`{"data":1,"slipway":"x"}`, ""},
		"newer":  {`{"data":2,"slipway":"v9.0.0"}`, "has layout 2, written by slipway v9.0.0"},
		"broken": {`{`, "read version of data directory"},
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			c.DataDir = t.TempDir()
			if tt.content != "" {
				if err := os.WriteFile(c.versionFile(), []byte(tt.content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := checkDataVersion(c)
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("got %v, expected %q in it", err, tt.want)
			case tt.want != "":
				if data, _ := os.ReadFile(c.versionFile()); string(data) != tt.content {
					t.Error("the version file was changed although it was refused")
				}
			default:
				if err := stampData(c); err != nil {
					t.Fatal(err)
				}
				if data, _ := os.ReadFile(c.versionFile()); !strings.Contains(string(data), version.Kubernetes) {
					t.Errorf("stamp is %s", data)
				}
			}
		})
	}
}
