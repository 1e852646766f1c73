// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
	"slipway.dev/slipway/proxy/takeover"
)

// agentSetup is what a process of ours is told.
type agentSetup struct {
	Pins, Cgroup, API string
	PodRanges         []netip.Prefix
	Pods              []agentPod
}

type agentPod struct {
	Link, MAC string
	Addrs     []netip.Addr
}

// agent does what the agent does about Services, in a process of its own, until
// its input ends. It prints a line when all is served.
func agent() error {
	in := bufio.NewReader(os.Stdin)
	var setup agentSetup
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &setup); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, in)
	}()
	return setup.run(ctx)
}

func (s agentSetup) run(ctx context.Context) error {
	log := slog.New(slog.DiscardHandler)
	klog.SetSlogLogger(log)
	watch, err := takeover.New(takeover.Config{PodRanges: s.PodRanges, Log: log})
	if err != nil {
		return err
	}
	d, err := bpf.Open(bpf.Config{PinDir: s.Pins, Log: log})
	if err != nil {
		return err
	}
	defer d.Close()
	if err := errors.Join(watch.Inform(d), d.AttachSock(s.Cgroup), s.attachPods(d)); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(&rest.Config{Host: s.API, QPS: -1})
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	p, err := proxy.New(proxy.Config{NodeName: nodeName, Informers: factory, Pods: factory.Core().V1().Pods(), Datapath: d, Log: log})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return watch.Run(ctx) })
	group.Go(func() error { return p.Run(ctx) })
	factory.Start(ctx.Done())
	for tick := time.NewTicker(5 * time.Millisecond); !p.Synced() && ctx.Err() == nil; {
		<-tick.C
	}
	fmt.Println("serves")
	return group.Wait()
}

func (s agentSetup) attachPods(d *bpf.Datapath) error {
	for _, p := range s.Pods {
		link, err := net.InterfaceByName(p.Link)
		if err != nil {
			return err
		}
		mac, err := net.ParseMAC(p.MAC)
		if err != nil {
			return err
		}
		if err := d.PutEndpoint(bpf.Endpoint{Addrs: p.Addrs, Ifindex: link.Index, PodMAC: mac, HostMAC: link.HardwareAddr}); err != nil {
			return err
		}
		if err := d.AttachPod(link.Index); err != nil {
			return err
		}
	}
	return nil
}
