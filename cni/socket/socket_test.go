// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

func TestReadRequest(t *testing.T) {
	valid := Request{
		Verb: Add, ContainerID: "c1", NetNS: "/run/netns/a", IfName: "eth0", Args: "K8S_POD_NAME=web",
		Config: json.RawMessage(`{"cniVersion":"1.1.0"}`),
	}
	var encoded bytes.Buffer
	if err := Write(&encoded, valid); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRequest(&encoded)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(valid, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	tests := []struct {
		name, text string
		code       uint
	}{
		{"empty", "", types.ErrDecodingFailure},
		{"not JSON", "ADD", types.ErrDecodingFailure},
		{"unknown verb", `{"verb":"VERSION","config":{}}`, types.ErrInvalidEnvironmentVariables},
		{"ADD without namespace", `{"verb":"ADD","containerID":"c","ifname":"eth0"}`, types.ErrInvalidEnvironmentVariables},
		{"no container", `{"verb":"DEL","ifname":"eth0"}`, types.ErrUnknownContainer},
		{"path as container", `{"verb":"DEL","containerID":"../x","ifname":"eth0"}`, types.ErrInvalidEnvironmentVariables},
		{"long device", `{"verb":"DEL","containerID":"c","ifname":"0123456789abcdef"}`, types.ErrInvalidEnvironmentVariables},
		{"zero byte", `{"verb":"DEL","containerID":"c","ifname":"e\u0000"}`, types.ErrInvalidEnvironmentVariables},
		{"too long", `{"verb":"GC","args":"` + strings.Repeat("x", maxMessage) + `"}`, types.ErrIOFailure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadRequest(strings.NewReader(tt.text))
			var failed *types.Error
			if !errors.As(err, &failed) || failed.Code != tt.code {
				t.Errorf("error %v, want code %d", err, tt.code)
			}
		})
	}
}

func TestDelNeedsNoNamespace(t *testing.T) {
	if _, err := ReadRequest(strings.NewReader(`{"verb":"DEL","containerID":"c","ifname":"eth0","config":{}}`)); err != nil {
		t.Error(err)
	}
}

func TestCallWithoutAgent(t *testing.T) {
	_, err := Call(t.Context(), filepath.Join(t.TempDir(), "none"), 150*time.Millisecond, Request{Verb: Status})
	if !errors.Is(err, ErrAbsent) {
		t.Errorf("error %v, want %v", err, ErrAbsent)
	}
}

// TestCall lets the agent answer, go away without an answer, and hang.
func TestCall(t *testing.T) {
	tests := []struct {
		name  string
		agent func(*net.UnixConn)
		want  error
	}{
		{"answers", func(conn *net.UnixConn) { _ = Write(conn, Response{}) }, nil},
		{"goes away", func(*net.UnixConn) {}, io.ErrUnexpectedEOF},
		{"hangs", func(*net.UnixConn) { <-t.Context().Done() }, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				if _, err := ReadRequest(conn); err == nil {
					tt.agent(conn.(*net.UnixConn))
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if tt.name == "hangs" {
				ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
			}
			defer cancel()
			_, err = Call(ctx, path, time.Second, Request{Verb: Status, Config: json.RawMessage(`{}`)})
			var timeout net.Error
			if tt.want == context.DeadlineExceeded {
				if !errors.As(err, &timeout) || !timeout.Timeout() {
					t.Errorf("error %v, want a timeout", err)
				}
			} else if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte(`{"verb":"ADD","containerID":"c","netns":"/run/netns/a","ifname":"eth0","config":{}}`))
	f.Add([]byte(`{"verb":"GC","config":{"cni.dev/valid-attachments":[]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadRequest(bytes.NewReader(data))
		if err != nil {
			var failed *types.Error
			if !errors.As(err, &failed) {
				t.Errorf("error %v has no code", err)
			}
			return
		}
		if (r.Verb == Add || r.Verb == Del || r.Verb == Check) && (r.ContainerID == "" || r.IfName == "" || len(r.IfName) > 15) {
			t.Errorf("accepted %+v", r)
		}
	})
}
