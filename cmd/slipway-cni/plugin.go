// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"slipway.dev/slipway/cni/socket"
)

const (
	// callTimeout is longer than the agent's own deadline for a request.
	callTimeout = 45 * time.Second
	// patience lets a restart of the agent pass unnoticed.
	patience = 3 * time.Second
)

// plugin forwards the verbs to the agent.
type plugin struct {
	out io.Writer
	// asked is the version in the network configuration, once it is known.
	asked string
}

func (p *plugin) version() string {
	if p.asked != "" {
		return p.asked
	}
	versions := socket.Versions()
	return versions[len(versions)-1]
}

func (p *plugin) add(args *skel.CmdArgs) error {
	result, err := p.forward(socket.Add, args, patience)
	if err != nil {
		return err
	}
	if _, err := p.out.Write(append(result, '\n')); err != nil {
		return types.NewError(types.ErrIOFailure, "print result", err.Error())
	}
	return nil
}

func (p *plugin) del(args *skel.CmdArgs) error {
	_, err := p.forward(socket.Del, args, patience)
	return err
}

func (p *plugin) check(args *skel.CmdArgs) error {
	_, err := p.forward(socket.Check, args, patience)
	return err
}

func (p *plugin) gc(args *skel.CmdArgs) error {
	_, err := p.forward(socket.GC, args, patience)
	return err
}

// status says "not available" where other verbs say "try again".
func (p *plugin) status(args *skel.CmdArgs) error {
	_, err := p.forward(socket.Status, args, 0)
	var failed *types.Error
	if errors.As(err, &failed) && failed.Code == types.ErrTryAgainLater {
		return types.NewError(types.ErrPluginNotAvailable, failed.Msg, failed.Details)
	}
	return err
}

// forward asks the agent and returns its result. Every error is a
// *types.Error. A runtime does not take a DEL for done that failed, so no
// address is lost while the agent is away.
func (p *plugin) forward(verb socket.Verb, args *skel.CmdArgs, patience time.Duration) (json.RawMessage, error) {
	var conf struct {
		CNIVersion string `json:"cniVersion"`
		Socket     string `json:"socket"`
	}
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "decode network configuration", err.Error())
	}
	p.asked = conf.CNIVersion
	if conf.Socket == "" {
		conf.Socket = socket.DefaultPath
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	response, err := socket.Call(ctx, conf.Socket, patience, socket.Request{
		Verb: verb, ContainerID: args.ContainerID, NetNS: args.Netns,
		IfName: args.IfName, Args: args.Args, Config: args.StdinData,
	})
	if err != nil {
		return nil, types.NewError(types.ErrTryAgainLater, fmt.Sprintf("slipway agent did not answer %s, try again later", verb), err.Error())
	}
	if response.Error != nil {
		return nil, response.Error
	}
	return response.Result, nil
}
