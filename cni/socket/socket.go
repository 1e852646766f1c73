// SPDX-License-Identifier: Apache-2.0

// Package socket is what slipway-cni and the agent say to each other: one
// request and one response, both JSON, a connection of a unix socket each.
// It owns the form of these messages and their limits, and neither makes nor
// interprets a network. It is small because the CNI executable links it. All
// of it may be used from any goroutine.
package socket

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
)

// DefaultPath is where the agent listens unless the network configuration
// has a field "socket".
const DefaultPath = "/run/slipway/cni.sock"

// maxMessage bounds a request and a response, in bytes. A GC request lists
// every attachment of the node and is the largest.
const maxMessage = 1 << 20

// Verb is an operation of the CNI specification.
type Verb string

// The verbs that the agent serves.
const (
	Add    Verb = "ADD"
	Del    Verb = "DEL"
	Check  Verb = "CHECK"
	GC     Verb = "GC"
	Status Verb = "STATUS"
)

// Versions returns the versions of the CNI specification that are served,
// oldest first.
func Versions() []string {
	return []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}
}

// Request is what a runtime asked of the CNI executable.
type Request struct {
	Verb        Verb   `json:"verb"`
	ContainerID string `json:"containerID,omitempty"`
	// NetNS is the path of the pod's network namespace; DEL may lack it.
	NetNS  string `json:"netns,omitempty"`
	IfName string `json:"ifname,omitempty"`
	// Args is CNI_ARGS: KEY=VALUE pairs with semicolons between them.
	Args string `json:"args,omitempty"`
	// Config is the network configuration from stdin, as it came.
	Config json.RawMessage `json:"config"`
}

// Response is what the agent answers: an error, or the result of ADD, or
// neither where there is nothing to say.
type Response struct {
	Error  *types.Error    `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// ReadRequest reads one request up to the end of the stream. It fails with a
// *types.Error when that is too long, is not a request, or has fields that
// are missing or not valid for its verb.
func ReadRequest(r io.Reader) (Request, error) {
	data, err := readAll(r)
	if err != nil {
		return Request{}, types.NewError(types.ErrIOFailure, "read request", err.Error())
	}
	var request Request
	if err := json.Unmarshal(data, &request); err != nil {
		return Request{}, types.NewError(types.ErrDecodingFailure, "decode request", err.Error())
	}
	if err := request.validate(); err != nil {
		return Request{}, err
	}
	return request, nil
}

func (r Request) validate() error {
	switch r.Verb {
	case GC, Status:
		return nil
	case Add, Check:
		if r.NetNS == "" {
			return types.NewError(types.ErrInvalidEnvironmentVariables, "missing network namespace", "")
		}
	case Del:
	default:
		return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("unknown verb %q", r.Verb), "")
	}
	if err := utils.ValidateContainerID(r.ContainerID); err != nil {
		return err
	}
	if err := utils.ValidateInterfaceName(r.IfName); err != nil {
		return err
	}
	if strings.ContainsRune(r.NetNS, 0) || strings.ContainsRune(r.IfName, 0) {
		return types.NewError(types.ErrInvalidEnvironmentVariables, "zero byte in a name", "")
	}
	return nil
}

// Write writes a request or a response.
func Write(w io.Writer, message any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(data) > maxMessage {
		return fmt.Errorf("write message: %w", errTooLong)
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	return nil
}

// ReadResponse reads one response up to the end of the stream. It fails with
// io.ErrUnexpectedEOF when the agent went away without one.
func ReadResponse(r io.Reader) (Response, error) {
	data, err := readAll(r)
	if err != nil {
		return Response{}, fmt.Errorf("read response: %w", err)
	}
	if len(data) == 0 {
		return Response{}, fmt.Errorf("read response: %w", io.ErrUnexpectedEOF)
	}
	var response Response
	if err := json.Unmarshal(data, &response); err != nil {
		return Response{}, fmt.Errorf("decode response: %w", err)
	}
	return response, nil
}

var errTooLong = errors.New("message is longer than 1 MiB")

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxMessage {
		return nil, errTooLong
	}
	return data, nil
}
