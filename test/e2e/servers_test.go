// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/node"
	"slipway.dev/slipway/node/balancer"
	"slipway.dev/slipway/node/local"
	"slipway.dev/slipway/node/pki"
)

// bridge is the range of the servers' network; this machine is its first host.
var bridge = netip.MustParsePrefix("172.29.0.0/24")

// servers are several servers on one etcd cluster, each with namespaces of its
// own on this machine.
type servers struct {
	slipway
	local   local.Config
	nodes   []local.Node
	members []*member
}

// TestRootServers runs two servers on an etcd cluster of three members, writes
// to them all the time, and kills the leader and then a member of etcd. No
// write that was acknowledged may be lost.
func TestRootServers(t *testing.T) {
	s := newServers(t)
	w := startWriter(t, s)
	leader := s.leader(t)
	other := s.nodes[0]
	if leader.Name == other.Name {
		other = s.nodes[1]
	}
	app := s.client(t, other)
	id, alive := local.Process(s.local, leader)
	if !alive {
		t.Fatalf("%s does not run", leader.Name)
	}
	begin := time.Now()
	if err := pullPlug(id.PID); err != nil {
		t.Fatal(err)
	}
	t.Logf("killed %s, which led", leader.Name)
	wantScheduling(t, app, other.Name, "after-leader")
	t.Logf("a pod was scheduled %.1f s after the leader was killed", time.Since(begin).Seconds())
	wantController(t, app, "after-leader")

	w.mark()
	begin = time.Now()
	s.members[0].kill(t)
	w.wait(t, 3000)
	t.Logf("longest pause between writes after an etcd member was killed: %.1f s", w.longest().Seconds())
	if pause := w.longest(); pause > 5*time.Second {
		t.Errorf("writes were interrupted for %v", pause)
	}
	names := w.stop()
	t.Logf("%d writes were acknowledged in %.0f s", len(names), time.Since(begin).Seconds())
	wantWritten(t, app, names)

	// The server that was killed comes back as a follower.
	s.startServer(t, leader)
	wantWritten(t, s.client(t, leader), names)
}

// testEtcdRefused is bad input of servers on an external etcd.
func testEtcdRefused(t *testing.T, s *servers, token string) {
	good := s.local.Service[1:]
	replaced := func(flag, value string) []string {
		var args []string
		for _, arg := range good {
			if strings.HasPrefix(arg, flag+"=") {
				arg = flag + "=" + value
			}
			args = append(args, arg)
		}
		return args
	}
	short := filepath.Join(t.TempDir(), "short")
	wrong := filepath.Join(t.TempDir(), "wrong")
	for path, content := range map[string]string{short: "short", wrong: "another token of a cluster"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"not reachable": {replaced("--etcd-endpoints", "https://172.29.0.1:9"), "etcd does not answer"},
		"no TLS":        {replaced("--etcd-endpoints", "http://172.29.0.1:2379"), "expected https://HOST:PORT"},
		"no authority":  {replaced("--etcd-cafile", ""), "certificate"},
		"half a pair":   {replaced("--etcd-keyfile", ""), "expected both or none"},
		"short token":   {replaced("--cluster-token-file", short), "expected 16 or more"},
		"wrong token":   {replaced("--cluster-token-file", wrong), "the token is not that of this cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"up", "--detach", "--data-dir=" + dir + "/data", "--run-dir=" + dir + "/run", "--kubeconfig=" + dir + "/kubeconfig", "--node-ip=172.29.0.1"}, c.args...)
			r := s.run(t, time.Minute, args...)
			if r.status == 0 || !strings.Contains(r.stderr, c.says) || strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 {
				t.Errorf("status %d: %s, expected one line with %q", r.status, r.stderr, c.says)
			}
		})
	}
}

func newServers(t *testing.T) *servers {
	t.Helper()
	s := &servers{slipway: binary(t)}
	dir := t.TempDir()
	freshKernel(t)
	before := snapshot(t)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("a secret of all servers\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.local = local.Config{
		Dir: filepath.Join(dir, "nodes"), RunDir: filepath.Join(dir, "run"), Executable: s.path,
		NodeDataDir: dataDir, NodeRunDir: runDir, Kubeconfig: kubeconfig, CIDRs: []netip.Prefix{bridge},
	}
	made := madeDirs(t, dataDir, filepath.Dir(kubeconfig), "/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers")
	if err := local.MakeNetwork(s.local); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := local.Clean(s.local, true); err != nil {
			t.Error(err)
		}
		for _, m := range s.members {
			m.kill(t)
		}
		for _, d := range made {
			if err := os.Remove(d); err != nil {
				t.Error(err)
			}
		}
		wantMachine(t, before)
	})
	certs := etcdCerts(t, filepath.Join(dir, "certs"))
	s.members = startMembers(t, dir, certs)
	var endpoints []string
	for _, m := range s.members {
		endpoints = append(endpoints, m.client)
	}
	s.local.Service = []string{
		"up", "--etcd-endpoints=" + strings.Join(endpoints, ","), "--etcd-cafile=" + certs + "/ca.crt",
		"--etcd-certfile=" + certs + "/etcd.crt", "--etcd-keyfile=" + certs + "/etcd.key", "--cluster-token-file=" + token,
		"--pod-cidr=10.244.0.0/16", "--service-cidr=10.96.0.0/16",
	}
	for i, name := range []string{"one", "two"} {
		s.nodes = append(s.nodes, local.Node{Name: name, Number: local.First + i})
		s.startServer(t, s.nodes[i])
	}
	testEtcdRefused(t, s, token)
	return s
}

// madeDirs makes directories that nodes need to have their own in the place
// of, and returns those that were not there.
func madeDirs(t *testing.T, dirs ...string) []string {
	t.Helper()
	var made []string
	for _, dir := range dirs {
		if exists(dir) {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		made = append(made, dir)
	}
	return made
}

func (s *servers) startServer(t *testing.T, n local.Node) {
	t.Helper()
	begin := time.Now()
	reports, err := local.Start(s.local, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reports.Close()
	lines := bufio.NewScanner(reports)
	for lines.Scan() {
		var p node.Progress
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if p.Error != "" {
			t.Fatalf("server %s: %s", n.Name, p.Error)
		}
		if p.Ready {
			t.Logf("server %s was Ready after %.1f s", n.Name, time.Since(begin).Seconds())
			return
		}
	}
	logs, _ := filepath.Glob(filepath.Join(s.local.Dir, n.Name, "data", "log", "slipway.log"))
	t.Fatalf("server %s ended:\n%s\n%s", n.Name, tail(filepath.Join(s.local.Dir, n.Name, "init.log"), 20), tail(strings.Join(logs, ""), 40))
}

// client returns a client of one server.
func (s *servers) client(t *testing.T, n local.Node) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.local.Dir, n.Name, "etc", "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.Host = "https://" + net.JoinHostPort(s.local.Address(n.Number)[0].Addr().String(), "6443")
	config.Timeout = 5 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// leader returns the server whose controllers work.
func (s *servers) leader(t *testing.T) local.Node {
	t.Helper()
	var found local.Node
	within(t, time.Minute, func() error {
		lease, err := s.client(t, s.nodes[0]).CoordinationV1().Leases("kube-system").Get(t.Context(), "kube-scheduler", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, n := range s.nodes {
			if lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == n.Name {
				found = n
				return nil
			}
		}
		return fmt.Errorf("nobody leads: %v", lease.Spec)
	})
	return found
}

// pullPlug kills the first process of a namespace, and so all in it.
func pullPlug(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

// wantScheduling makes a pod and waits until it has a node.
func wantScheduling(t *testing.T, client kubernetes.Interface, node, name string) {
	t.Helper()
	_, err := client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"kubernetes.io/hostname": node},
			Containers:   []corev1.Container{{Name: "app", Image: appImage, ImagePullPolicy: corev1.PullNever}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, func() error {
		pod, err := client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && pod.Spec.NodeName == "" {
			err = fmt.Errorf("pod %s has no node", name)
		}
		return err
	})
}

// wantController makes a namespace and waits until a controller has seen it.
func wantController(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, func() error {
		_, err := client.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
}

// writer makes ConfigMaps one after the other, through any server.
type writer struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	names []string
	last  time.Time
	pause time.Duration
}

func startWriter(t *testing.T, s *servers) *writer {
	t.Helper()
	var addresses []string
	for _, n := range s.nodes {
		addresses = append(addresses, net.JoinHostPort(s.local.Address(n.Number)[0].Addr().String(), "6443"))
	}
	front, err := balancer.Listen("127.0.0.1:0", addresses, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.local.Dir, s.nodes[0].Name, "etc", "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.Host, config.Timeout, config.QPS = "https://"+front.Addr().String(), 3*time.Second, -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{cancel: cancel, done: make(chan struct{}), last: time.Now()}
	go front.Run(ctx)
	go w.run(ctx, client)
	return w
}

func (w *writer) run(ctx context.Context, client kubernetes.Interface) {
	defer close(w.done)
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("write-%06d", i)
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, object, metav1.CreateOptions{}); err != nil {
			continue // It was not acknowledged.
		}
		w.mu.Lock()
		w.pause = max(w.pause, time.Since(w.last))
		w.last = time.Now()
		w.names = append(w.names, name)
		w.mu.Unlock()
	}
}

// mark forgets how long writes were interrupted so far.
func (w *writer) mark() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pause, w.last = 0, time.Now()
}

func (w *writer) longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.pause, time.Since(w.last))
}

// wait waits for so many more writes.
func (w *writer) wait(t *testing.T, more int) {
	t.Helper()
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.names)
	}
	want := count() + more
	within(t, time.Minute, func() error {
		if have := count(); have < want {
			return fmt.Errorf("%d writes, expected %d", have, want)
		}
		return nil
	})
}

func (w *writer) stop() []string {
	w.cancel()
	<-w.done
	return w.names
}

func wantWritten(t *testing.T, client kubernetes.Interface, names []string) {
	t.Helper()
	list, err := client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, object := range list.Items {
		there[object.Name] = true
	}
	lost := 0
	for _, name := range names {
		if !there[name] {
			lost++
		}
	}
	if lost > 0 || len(names) == 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, len(names))
	}
}

// member is one member of the etcd cluster.
type member struct {
	cmd    *exec.Cmd
	client string
	ended  chan struct{}
}

func (m *member) kill(t *testing.T) {
	t.Helper()
	_ = m.cmd.Process.Kill()
	<-m.ended
}

func etcdCerts(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.LoadAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Ensure(dir, "etcd", pki.Request{CommonName: "etcd", Hosts: []string{"172.29.0.1"}}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func startMembers(t *testing.T, dir, certs string) []*member {
	t.Helper()
	program := filepath.Join(dir, "etcd")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "go.etcd.io/etcd/server/v3")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build etcd: %v\n%s", err, out)
	}
	peer := func(i int) string { return fmt.Sprintf("https://172.29.0.1:%d", 12380+i) }
	client := func(i int) string { return fmt.Sprintf("https://172.29.0.1:%d", 12379+100*(i+1)) }
	var initial []string
	for i := range 3 {
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peer(i)))
	}
	var members []*member
	for i := range 3 {
		cmd := exec.Command(program, fmt.Sprintf("--name=m%d", i), "--data-dir="+filepath.Join(dir, fmt.Sprintf("m%d", i)),
			"--listen-client-urls="+client(i), "--advertise-client-urls="+client(i),
			"--listen-peer-urls="+peer(i), "--initial-advertise-peer-urls="+peer(i), "--initial-cluster="+strings.Join(initial, ","),
			"--cert-file="+certs+"/etcd.crt", "--key-file="+certs+"/etcd.key", "--trusted-ca-file="+certs+"/ca.crt", "--client-cert-auth",
			"--peer-cert-file="+certs+"/etcd.crt", "--peer-key-file="+certs+"/etcd.key", "--peer-trusted-ca-file="+certs+"/ca.crt", "--peer-client-cert-auth",
			"--log-level=warn")
		log, err := os.Create(filepath.Join(dir, fmt.Sprintf("m%d.log", i)))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("== %s\n%s", log.Name(), tail(log.Name(), 20))
			}
		})
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		m := &member{cmd: cmd, client: client(i), ended: make(chan struct{})}
		go func() {
			cmd.Wait()
			close(m.ended)
		}()
		members = append(members, m)
	}
	pair, err := tls.LoadX509KeyPair(certs+"/etcd.crt", certs+"/etcd.key")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		within(t, 30*time.Second, func() error {
			dialer := &net.Dialer{Timeout: time.Second}
			conn, err := tls.DialWithDialer(dialer, "tcp", strings.TrimPrefix(m.client, "https://"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	return members
}
