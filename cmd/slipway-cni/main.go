// SPDX-License-Identifier: Apache-2.0

// Command slipway-cni is the CNI plugin that container runtimes run. It asks
// the Slipway agent over its unix socket and prints what that answers; it
// changes nothing by itself.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"slipway.dev/slipway/cni/socket"
	release "slipway.dev/slipway/internal/version"
)

func main() {
	p := &plugin{out: os.Stdout}
	failed := skel.PluginMainFuncsWithError(
		skel.CNIFuncs{Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status},
		version.PluginSupports(socket.Versions()...),
		"CNI plugin slipway-cni "+release.Version,
	)
	if failed == nil {
		return
	}
	if err := p.printError(failed); err != nil {
		fmt.Fprintln(os.Stderr, "slipway-cni:", err)
	}
	os.Exit(1)
}

// printError prints the error object of the CNI specification, section 5.
func (p *plugin) printError(failed *types.Error) error {
	data, err := json.Marshal(struct {
		Version string `json:"cniVersion"`
		*types.Error
	}{p.version(), failed})
	if err != nil {
		return fmt.Errorf("encode error: %w", err)
	}
	if _, err := p.out.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("print error: %w", err)
	}
	return nil
}
