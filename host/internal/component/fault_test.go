package component

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What forks away has ended, with a clear word and without what it left; where it is
// started again, each time.
func TestForksAway(t *testing.T) {
	dir := t.TempDir()
	s := newSupervisor(t, dir)
	left := filepath.Join(dir, "left")
	s.start(shell("daemon", "setsid sleep 300 & echo $! >> "+left+"; exit 0"))
	if st := s.await("daemon", StateCompleted); st.PID != 0 || st.LastError != nil || !strings.Contains(st.Detail, "stay in the foreground") {
		t.Errorf("%+v", st)
	}
	for _, pid := range pidsIn(t, left) {
		awaitGone(t, pid)
	}
	kept := filepath.Join(dir, "kept")
	again := shell("again", "setsid sleep 300 & echo $! >> "+kept+"; exit 0", func(s *Spec) { s.RestartPolicy = RestartAlways })
	other := newSupervisor(t, filepath.Join(dir, "other"))
	other.start(again)
	if st := other.await("again", StateFailed); st.LastError.Reason != ReasonCrashLoop || st.Restarts != again.Backoff.BreakerFailures-1 {
		t.Errorf("%+v", st.LastError)
	}
	all := pidsIn(t, kept)
	if len(all) != again.Backoff.BreakerFailures {
		t.Errorf("it was started %d times", len(all))
	}
	for _, pid := range all {
		awaitGone(t, pid)
	}
}

func pidsIn(t *testing.T, file string) (pids []int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for field := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// Grandchildren that have left the session, hold the output open and print on do not
// keep a crashed component from being started again, and do not outlive it.
func TestGrandchildren(t *testing.T) {
	dir := t.TempDir()
	s := newSupervisor(t, dir)
	left := filepath.Join(dir, "left")
	script := "if test -e " + left + "; then echo up; exec sleep 300; fi; setsid sh -c 'trap \"\" TERM HUP; echo $$ >> " + left + "; while :; do echo still here; sleep 0.01; done' & while ! test -e " + left + "; do sleep 0.01; done; kill -9 $$"
	begin := time.Now()
	s.start(shell("c", script, saying("^up")))
	st := s.await("c", StateReady)
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("it was held up for %v", took)
	}
	if st.Restarts != 1 || st.Instance != 2 {
		t.Errorf("%+v", st)
	}
	for _, pid := range pidsIn(t, left) {
		awaitGone(t, pid)
	}
}

// smallDisk is a file system with little room.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("a small file system takes root")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A component that fills its disk fails with what it said of it; one beside it does
// not notice.
func TestFillsItsDisk(t *testing.T) {
	own := smallDisk(t, "256k")
	s := newSupervisor(t, t.TempDir())
	s.start(
		shell("greedy", "head -c 1M /dev/zero > all || exit 5", func(s *Spec) { s.Dir = own }),
		shell("neighbour", "exec sleep 300"),
	)
	st := s.await("greedy", StateFailed)
	if st.LastError.Reason != ReasonCrashLoop || !strings.Contains(st.LastError.Message, "No space left on device") || !strings.Contains(st.LastError.Message, "code 5") {
		t.Errorf("%+v", st.LastError)
	}
	if st := s.status("neighbour"); st.State != StateReady {
		t.Errorf("%+v", st)
	}
}

// A disk that is full where output is kept loses lines, and holds up nobody: the
// component is read, found ready, and stopped.
func TestLogDiskIsFull(t *testing.T) {
	logs := smallDisk(t, "64k")
	s := newSupervisor(t, t.TempDir(), func(o *Options) { o.LogDir = logs })
	s.start(shell("c", "yes "+strings.Repeat("x", 200)+" | head -c 4M; echo; echo done; exec sleep 300", saying("^done")))
	st := s.status("c")
	if st.State != StateReady {
		t.Fatalf("%+v", st)
	}
	var last string
	if err := s.Logs(t.Context(), "c", 1, false, func(all []Line) error {
		for _, l := range all {
			last = l.Text
		}
		return nil
	}); err != nil || last == "" {
		t.Errorf("%q, %v", last, err)
	}
	if _, err := s.Stop(t.Context(), "c", false); err != nil {
		t.Error(err)
	}
}

// A disk that is full where the host keeps what it needs to know of a component is no
// failure of the component: it is started when there is room again.
func TestHostDiskIsFull(t *testing.T) {
	disk := smallDisk(t, "64k")
	s := newSupervisor(t, t.TempDir(), func(o *Options) { o.Dir = filepath.Join(disk, "components") })
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 128<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	s.start(shell("db", "exec sleep 300"))
	tries := shell("", "").Backoff.BreakerFailures
	s.awaitThat("db", "tried more often than the breaker lets", func(st Status) bool { return st.Instance > 2*tries || st.State == StateFailed })
	if st := s.status("db"); st.LastError.Reason != ReasonHost || !strings.Contains(st.LastError.Message, "no space left") {
		t.Errorf("%+v: %v", st, st.LastError)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.await("db", StateReady)
}

// A record that did not find room is no part of a word: the last whole one counts,
// and so does the next that finds room.
func TestRecordOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, "8k") // two pages: one for the record, one for the filler
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, []byte("full"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &record{Component: "a", Instance: "first", base: filepath.Join(dir, "a")}
	var err error
	for steps := 0; err == nil && steps < 1000; steps++ {
		r.Spec = fmt.Sprint(steps)
		err = r.write()
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	last, _ := strconv.Atoi(r.Spec)
	if got, ok := readRecord(r.base + recordSuffix); !ok || got.Spec != fmt.Sprint(last-1) {
		t.Errorf("%v, want the word before %d", got, last)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	if got, ok := readRecord(r.base + recordSuffix); !ok || got.Spec != r.Spec {
		t.Errorf("%v, want %d", got, last)
	}
}
