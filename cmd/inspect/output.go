// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// output is the flag -o, as kubectl has it.
type output struct {
	allowed []string
	value   string
}

func (o *output) register(cmd *cobra.Command) {
	cmd.Flags().VarP(o, "output", "o", "format: "+strings.Join(o.allowed, " or "))
}

// String is part of pflag.Value.
func (o *output) String() string { return o.value }

// Type is part of pflag.Value.
func (o *output) Type() string { return "format" }

// Set is part of pflag.Value.
func (o *output) Set(text string) error {
	if !slices.Contains(o.allowed, text) {
		return fmt.Errorf("expected %s", strings.Join(o.allowed, " or "))
	}
	o.value = text
	return nil
}

// print prints values as JSON when that is asked for, or as text does.
func (o *output) print(out io.Writer, values any, text func(io.Writer) error) error {
	if o.value != "json" {
		return text(out)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(values)
}
