package plugin

import (
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(i int) string { return strconv.Itoa(i) }

// statOf returns pid and parent of a /proc/PID/stat file; zeros when it is gone.
func statOf(path string) (pid, ppid int) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0
	}
	head, rest, _ := strings.Cut(string(data), " (")
	_, rest, _ = strings.Cut(rest, ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0, 0
	}
	pid, _ = strconv.Atoi(head)
	ppid, _ = strconv.Atoi(fields[1])
	return pid, ppid
}

// copyFile copies the test binary to path.
func copyFile(t *testing.T, path string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRestartPolicy(t *testing.T) {
	r := restarts{policy: RestartPolicy{BackoffMin: time.Second, BackoffMax: 3 * time.Second, BreakerFailures: 6, BreakerWindow: time.Minute}}
	now := time.Unix(0, 0)
	bounds := []struct{ min, max int64 }{{0, 0}, {500, 1000}, {1000, 2000}, {1500, 3000}, {1500, 3000}} // milliseconds
	for i, b := range bounds {
		wait, open := r.fail(now)
		if open || wait.Milliseconds() < b.min || wait.Milliseconds() > b.max {
			t.Errorf("failure %d: wait %v, open %v", i+1, wait, open)
		}
	}
	if _, open := r.fail(now); !open {
		t.Error("the breaker did not open at the sixth failure")
	}
	if wait, open := r.fail(now.Add(2 * time.Minute)); open || wait != 0 {
		t.Errorf("after a stable period: wait %v, open %v", wait, open)
	}
}
