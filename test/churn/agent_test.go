// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
	"slipway.dev/slipway/proxy"
)

// TestMain turns the test binary into an agent or a client when it is asked to
// be one.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 5 && os.Args[1] == "agent":
		if err := runAgent(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		os.Exit(0)
	case len(os.Args) == 2 && os.Args[1] == "client":
		runClient(os.Stdin, os.Stdout)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runAgent is the service proxy of a node, as the agent runs it.
func runAgent(kubeconfig, pins, cgroup string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	klog.SetSlogLogger(log)
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	data, err := bpf.Open(bpf.Config{PinDir: pins, Log: log})
	if err != nil {
		return err
	}
	defer data.Close()
	if err := errors.Join(data.AttachSock(cgroup), attachPods(data)); err != nil {
		return err
	}
	all := informers.NewSharedInformerFactory(api, 0)
	own := informers.NewSharedInformerFactoryWithOptions(api, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = "spec.nodeName=" + here
	}))
	p, err := proxy.New(proxy.Config{NodeName: here, Informers: all, Pods: own.Core().V1().Pods(), Datapath: data, Log: log})
	if err != nil {
		return err
	}
	all.Start(ctx.Done())
	own.Start(ctx.Done())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.Run(ctx) })
	return group.Wait()
}

// attachPods is what the pod network does for the pods that there are.
func attachPods(data *bpf.Datapath) error {
	links, err := netlink.LinkList()
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, "slw") {
			err = errors.Join(err, data.AttachPod(link.Attrs().Index))
		}
	}
	return err
}

// agent is the agent's process, which may be killed and started again.
type agent struct {
	lab        *lab
	kubeconfig string
	// programs are two copies of the same program.
	programs [2]string
	log      *os.File
	cmd      *exec.Cmd
}

func newAgent(t *testing.T, l *lab, kubeconfig string) *agent {
	t.Helper()
	a := &agent{lab: l, kubeconfig: kubeconfig}
	for i := range a.programs {
		a.programs[i] = filepath.Join(t.TempDir(), "agent")
		if err := copyProgram(a.programs[i]); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if a.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.end(syscall.SIGKILL)
		if t.Failed() {
			text, _ := os.ReadFile(a.log.Name())
			t.Logf("the agent's log:\n%s", text[max(0, len(text)-8000):])
		}
		a.log.Close()
	})
	return a
}

func copyProgram(to string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}

// start runs one of the two copies.
func (a *agent) start(t *testing.T, copy int) {
	t.Helper()
	a.cmd = exec.Command(a.programs[copy%2], "agent", a.kubeconfig, a.lab.pins, a.lab.cgroup)
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	roottest.In(t, a.lab.node, a.cmd.Start)
}

// end sends a signal and waits until the process is gone.
func (a *agent) end(signal syscall.Signal) {
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Signal(signal)
	_ = a.cmd.Wait()
	a.cmd = nil
}
