// SPDX-License-Identifier: Apache-2.0

package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// maxOutput bytes of a tool's output are kept in an error.
const maxOutput = 1024

// ExitError is a tool that ran and failed.
type ExitError struct {
	Tool   string
	Code   int
	Output string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: exit code %d: %s", e.Tool, e.Code, e.Output)
}

// run runs the tool and waits for it. The error is an ErrTool, an
// *ExitError, or the context's.
func run(ctx context.Context, tool string, args ...string) error {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("run %s: %w", tool, ErrTool)
	case ctx.Err() != nil:
		return fmt.Errorf("run %s: %w", tool, ctx.Err())
	case errors.As(err, &exit):
		return &ExitError{Tool: tool, Code: exit.ExitCode(), Output: clip(output)}
	}
	return fmt.Errorf("run %s: %w", tool, err)
}

// clip gives the end of the output, where tools say what went wrong.
func clip(output []byte) string {
	s := strings.TrimSpace(string(output))
	return s[max(0, len(s)-maxOutput):]
}
