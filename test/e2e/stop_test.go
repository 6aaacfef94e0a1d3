package e2e_test

import (
	"bufio"
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// A host stops soon although a plugin has not come up yet.
func TestInterruptDuringStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	command := s.install("hostile", hostile(t))
	s.configure(hostilePlugin(command, "good"))
	s.lock()
	s.configure(hostilePlugin(command, "silent", `start_timeout = "1m"`))
	h := s.start()
	h.await("the start of the plugin", func(l line) bool { return l.Component == "plugin detector.hostile" && l.Phase == "starting" })
	if took := h.stop(); took > 5*time.Second {
		t.Errorf("the host took %v to stop", took)
	}
}

// It stops soon although a scan is under way that does not end,
func TestInterruptDuringScan(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.write("hostile.mode", "hang")
	s.configure(hostilePlugin(s.install("hostile", hostile(t)), "good", `stop_grace = "1s"`))
	s.lock()
	h := s.start()
	h.waitUp()
	h.waitFor("the scan is under way", func(st *apiv1.Status) bool { return plugin(st, "detector.hostile").GetInFlight() == 1 })
	h.stopInTime()
	if len(h.timeline()) == 0 || h.timeline()[len(h.timeline())-1].Phase != "stopped" {
		t.Errorf("the timeline ends with %+v", h.timeline())
	}
}

// and although somebody watches it.
func TestInterruptWhileWatched(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	s.lock()
	h := s.up()
	watch := s.command(t.Context(), "status", "--watch", "-o", "json")
	stdout, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	if first, err := lines.ReadString('\n'); err != nil || !strings.Contains(first, `"state":"ok"`) {
		t.Errorf("the watch saw %q, %v", first, err)
	}
	h.stopInTime()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, lines)
		ended <- errors.Join(err, watch.Wait())
	}()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 5) {
			t.Errorf("the watch ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the watch outlives the host")
	}
}

// The second interrupt ends the host at once, with its plugins; the next host
// clears away what that left.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	command := s.install("hostile", hostile(t))
	s.configure(hostilePlugin(command, "good"))
	s.lock()
	s.configure(hostilePlugin(command, "ignore-term", `stop_grace = "1m"`))
	h := s.up()
	all := s.watchSite(h.pid())
	h.signal(syscall.SIGINT)
	h.await("the host begins to stop", func(l line) bool { return l.Component == "host" && l.Phase == "stopping" })
	h.signal(syscall.SIGINT)
	select {
	case <-h.exited:
	case <-time.After(patience):
		t.Fatal("the second interrupt does not end the host")
	}
	if h.code != 130 {
		t.Errorf("exit %d", h.code)
	}
	allGone(t, time.Second, all)
	s.configure()
	s.lock()
	s.up()
}
