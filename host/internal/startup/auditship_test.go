package startup

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/audit"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// hostEnv makes the test binary a host; it names the configuration.
const hostEnv = "SOP_TEST_HOST"

// runUntilKilled says a line when the host is ready.
func runUntilKilled(config string) {
	err := Run(context.Background(), Options{ConfigPath: config, Version: "test", OnStep: func(s Step) {
		if s.Component == "host" && s.Phase == "ready" {
			fmt.Println("ready")
		}
	}})
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// sign asks for what is a record before it is done.
func sign(t *testing.T, client apiv1connect.AuditClient) error {
	t.Helper()
	_, err := client.Checkpoint(context.WithoutCancel(t.Context()), connect.NewRequest(&apiv1.CheckpointRequest{}))
	return err
}

// whole fails the test unless the mirror has the records 1 to n, each of them at
// least once and none before the one that precedes it.
func whole(t *testing.T, path string, n uint64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	seen, repeated := uint64(0), 0
	for r, err := range audit.Parse(f) {
		switch {
		case err != nil:
			t.Fatal(err)
		case r.Seq > seen+1:
			t.Fatalf("after record %d comes %d", seen, r.Seq)
		case r.Seq <= seen:
			repeated++
		}
		seen = max(seen, r.Seq)
	}
	if seen < n {
		t.Errorf("the mirror ends with record %d of %d", seen, n)
	}
	t.Logf("%d records, %d of them repeated", seen, repeated)
}

// TestKilledMirrorLeavesNothingOut kills a host that mirrors, in the middle of
// its work and again: after the restart the mirror has every record.
func TestKilledMirrorLeavesNothingOut(t *testing.T) {
	s := newSite(t)
	s.lock()
	mirror := filepath.Join(s.dir, "mirror.jsonl")
	s.configure(fmt.Sprintf("audit {\n mirror \"file\" {\n path = %q\n }\n}\n", mirror))
	client := apiv1connect.NewAuditClient(s.http(), "http://sop")
	for round := range 3 {
		s.untilKilled(func(kill func()) {
			var callers sync.WaitGroup
			var done atomic.Int32
			for range 4 {
				callers.Go(func() {
					for sign(t, client) == nil {
						if done.Add(1) == int32(20*(round+1)) {
							kill()
						}
					}
				})
			}
			callers.Wait()
		})
	}
	s.start()
	<-s.scans
	end, err := client.Verify(t.Context(), connect.NewRequest(&apiv1.VerifyRequest{}))
	if err != nil || !end.Msg.GetOk() || end.Msg.GetRecords() < 20+40+60 {
		t.Fatal(end, err)
	}
	s.end()
	whole(t, mirror, uint64(end.Msg.GetRecords()))
}

// untilKilled runs a host in a process of its own while work works, which kills
// it.
func (s *site) untilKilled(work func(kill func())) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.exe)
	cmd.Env = append(os.Environ(), hostEnv+"="+s.config)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
	}
	work(func() { _ = cmd.Process.Kill() })
	if err := cmd.Wait(); err == nil {
		s.t.Fatal("the host ended by itself")
	}
}

// Where the log is carried to changes on a running host, and what is refused
// changes nothing.
func TestAuditBlockIsReloaded(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	<-s.scans
	client := apiv1connect.NewAuditClient(s.http(), "http://sop")
	names := func() string {
		t.Helper()
		answer, err := client.ListSinks(t.Context(), connect.NewRequest(&apiv1.ListSinksRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, sink := range answer.Msg.GetSinks() {
			all = append(all, sink.GetRole()+" "+filepath.Base(sink.GetTarget()))
		}
		return strings.Join(all, ", ")
	}
	reload := func(block string, ok bool) {
		t.Helper()
		s.configure(block)
		answer, err := apiv1connect.NewHostClient(s.http(), "http://sop").Reload(t.Context(), connect.NewRequest(&apiv1.ReloadRequest{}))
		if err != nil || answer.Msg.GetVerdict().GetOk() != ok {
			t.Fatal(answer, err)
		}
	}
	mirror, notes := filepath.Join(s.dir, "m"), filepath.Join(s.dir, "n")
	both := fmt.Sprintf("audit {\n mirror \"file\" {\n path = %q\n }\n checkpoint \"file\" {\n path = %q\n }\n}\n", mirror, notes)
	if got := names(); got != "" {
		t.Errorf("carried to %s", got)
	}
	reload(both, true)
	if got := names(); got != "checkpoint n, mirror m" {
		t.Errorf("carried to %s", got)
	}
	reload("audit {\n mirror \"pigeon\" {}\n}\n", false)
	if got := names(); got != "checkpoint n, mirror m" {
		t.Errorf("after a refused configuration carried to %s", got)
	}
	if err := sign(t, client); err != nil {
		t.Fatal(err)
	}
	reload(fmt.Sprintf("audit {\n checkpoint \"file\" {\n path = %q\n }\n}\n", notes), true)
	if got := names(); got != "checkpoint n" {
		t.Errorf("carried to %s", got)
	}
	end, err := client.Verify(t.Context(), connect.NewRequest(&apiv1.VerifyRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	reload(both, true) // from where it was
	if err := sign(t, client); err != nil {
		t.Fatal(err)
	}
	s.end()
	whole(t, mirror, uint64(end.Msg.GetRecords()))
	text, err := os.ReadFile(notes)
	if err != nil || len(audit.SplitCheckpoints(string(text))) == 0 {
		t.Error(err)
	}
	result, err := VerifyAudit(t.Context(), AuditVerification{DataDir: filepath.Join(s.dir, "data"), Checkpoints: []string{notes}})
	if err != nil || !result.GetOk() {
		t.Error(result, err)
	}
}
