package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// patience is how long a test waits for what should happen soon, on a machine
// that has other things to do.
const patience = 30 * time.Second

// host is a `sop up` that runs.
type host struct {
	*site
	cmd    *exec.Cmd
	stderr bytes.Buffer // read after exited
	exited chan struct{}
	code   int // after exited

	mu    sync.Mutex
	lines []line
	news  chan struct{} // closed and replaced when there are more lines
	ended bool          // its output has
}

// line is one line of `sop up -o json`.
type line struct {
	Type      string `json:"type"`
	Component string `json:"component"`
	Phase     string `json:"phase"`
	Detail    string `json:"detail"`
	Remedy    string `json:"remedy"`
	First     bool   `json:"first"`
	Workspace struct {
		LastScan struct {
			Complete bool `json:"complete"`
			Opened   int  `json:"opened"`
			Resolved int  `json:"resolved"`
		} `json:"last_scan"`
	} `json:"workspace"`
}

// start starts the host and returns at once.
func (s *site) start() *host {
	s.t.Helper()
	h := &host{site: s, exited: make(chan struct{}), news: make(chan struct{})}
	h.cmd = s.command(context.Background(), "up", "-o", "json", "--config", s.conf)
	h.cmd.Stderr = &h.stderr
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); h.read(out) }()
	go func() {
		defer close(h.exited)
		<-read
		_ = h.cmd.Wait() // its code says it all
		h.code = h.cmd.ProcessState.ExitCode()
	}()
	s.t.Cleanup(h.finish)
	return h
}

// up starts the host and waits until it is ready and has scanned.
func (s *site) up() *host {
	s.t.Helper()
	h := s.start()
	h.await("the first scan", func(l line) bool { return l.Type == "scan" })
	return h
}

// waitUp waits until the host is ready.
func (h *host) waitUp() {
	h.t.Helper()
	h.await("a host that is ready", func(l line) bool { return l.Component == "host" && l.Phase == "ready" })
}

func (h *host) read(out io.Reader) {
	in := bufio.NewScanner(out)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			l = line{Type: "malformed", Detail: in.Text()}
		}
		h.mu.Lock()
		h.lines = append(h.lines, l)
		close(h.news)
		h.news = make(chan struct{})
		h.mu.Unlock()
	}
	h.mu.Lock()
	h.ended = true
	close(h.news)
	h.mu.Unlock()
}

// await waits for a line of the timeline.
func (h *host) await(what string, match func(line) bool) {
	h.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for at := 0; ; {
		h.mu.Lock()
		lines, news, ended := h.lines, h.news, h.ended
		h.mu.Unlock()
		for ; at < len(lines); at++ {
			if match(lines[at]) {
				return
			}
		}
		if ended {
			<-h.exited
			h.t.Fatalf("the host ended (exit %d) before %s: %s", h.code, what, h.stderr.String())
		}
		select {
		case <-news:
		case <-timer.C:
			h.t.Fatalf("no %s within %v; the timeline is %+v", what, patience, lines)
		}
	}
}

// timeline is what has been printed so far.
func (h *host) timeline() []line {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lines
}

// status runs `sop status`, which exits with 0 or, when degraded, with 3.
func (h *host) status() *apiv1.Status {
	h.t.Helper()
	r := h.sop("status", "-o", "json", "--socket", h.socket())
	s := &apiv1.Status{}
	if err := protojson.Unmarshal([]byte(r.stdout), s); err != nil {
		h.t.Fatalf("%v\n%v", err, r)
	}
	want := 0
	if s.GetState() == "degraded" {
		want = 3
	}
	if r.code != want {
		h.t.Errorf("state %s and exit %d", s.GetState(), r.code)
	}
	return s
}

// waitFor waits until the status is as wanted.
func (h *host) waitFor(what string, ready func(*apiv1.Status) bool) *apiv1.Status {
	h.t.Helper()
	return h.waitWithin(patience, what, ready)
}

func (h *host) waitWithin(d time.Duration, what string, ready func(*apiv1.Status) bool) *apiv1.Status {
	h.t.Helper()
	var s *apiv1.Status
	if !eventually(d, func() bool { s = h.status(); return ready(s) }) {
		h.t.Fatalf("not within %v: %s\nstatus: %s", d, what, protojson.Format(s))
	}
	return s
}

// plugin picks one plugin from a status.
func plugin(s *apiv1.Status, id string) *apiv1.PluginStatus {
	for _, p := range s.GetPlugins() {
		if p.GetId() == id {
			return p
		}
	}
	return nil
}

// plugin asks for one plugin.
func (h *host) plugin(id string) *apiv1.PluginStatus { h.t.Helper(); return plugin(h.status(), id) }

// lastScan is the last scan of the workspace.
func lastScan(s *apiv1.Status) *apiv1.ScanReport {
	for _, w := range s.GetWorkspaces() {
		return w.GetLastScan()
	}
	return nil
}

// scan has the host scan now, by its API, and returns the report.
func (h *host) scan() *apiv1.ScanReport {
	h.t.Helper()
	report, err := h.tryScan()
	if err != nil {
		h.t.Fatalf("scan: %v", err)
	}
	return report
}

func (h *host) tryScan() (*apiv1.ScanReport, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.socket())
	}}
	defer transport.CloseIdleConnections()
	client := apiv1connect.NewWorkspaceClient(&http.Client{Transport: transport}, "http://sop")
	answer, err := client.ScanWorkspace(ctx, connect.NewRequest(&apiv1.ScanWorkspaceRequest{Workspace: "main"}))
	if err != nil {
		return nil, err
	}
	return answer.Msg.GetScan(), nil
}

// pid of the host.
func (h *host) pid() int { return h.cmd.Process.Pid }

func (h *host) signal(sig syscall.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil {
		h.t.Fatalf("signal the host: %v", err)
	}
}

// stop interrupts the host, asserts that it ends well, and returns how long
// that took.
func (h *host) stop() time.Duration {
	h.t.Helper()
	begin := time.Now()
	h.signal(syscall.SIGINT)
	select {
	case <-h.exited:
	case <-time.After(patience):
		h.t.Fatalf("the host did not stop within %v of SIGINT", patience)
	}
	took := time.Since(begin)
	if h.code != 0 {
		h.t.Errorf("stopped host: exit %d: %s", h.code, h.stderr.String())
	}
	return took
}

// kill ends the host with SIGKILL and waits for its exit.
func (h *host) kill() {
	h.t.Helper()
	h.t.Cleanup(h.removeCgroups)
	h.signal(syscall.SIGKILL)
	select {
	case <-h.exited:
	case <-time.After(patience):
		h.t.Fatal("the host did not end")
	}
}

// finish stops the host if the test has not.
func (h *host) finish() {
	select {
	case <-h.exited:
	default:
		h.stop()
	}
	if stderr := h.stderr.String(); strings.Contains(stderr, "panic:") || strings.Contains(stderr, "DATA RACE") {
		h.t.Errorf("the host wrote to standard error: %s", clip(stderr))
	}
}

// kill sends SIGKILL to a process that the host started.
func kill(t *testing.T, pid int32, sig syscall.Signal) {
	t.Helper()
	if pid <= 0 {
		t.Fatal("there is no process to signal")
	}
	if err := syscall.Kill(int(pid), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
}
