package machine

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is measured is what this process uses, what one that it has started uses,
// and what the machine has.
func TestMeasure(t *testing.T) {
	child := exec.Command("/bin/cat") // until its input ends
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	m := &Meter{Dir: t.TempDir(), Started: func() []int { return []int{child.Process.Pid, 1 << 30} }}
	if m.Latest() != nil {
		t.Error("there is a sample before anything was measured")
	}
	if err := m.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := m.Latest(); s != nil {
		t.Errorf("there is a sample that cannot know how busy anything is: %+v", s)
	}
	if err := m.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := m.Latest()
	// Busy for as long as the kernel takes to notice, which counts in hundredths of a
	// second: over less than some of them anything may come out.
	for deadline := time.Now().Add(20 * time.Second); m.Latest() == before || m.Latest().Host.CPUPercent == 0 && time.Now().Before(deadline); {
		for begin := time.Now(); time.Since(begin) < 200*time.Millisecond; {
			_ = sha256.Sum256(make([]byte, 1<<20))
		}
		if err := m.measure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s := m.Latest()
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if s.Host.CPUPercent <= 0 || s.Host.Memory < 1<<20 || s.Host.Threads < 2 || s.Host.OpenFiles < 3 || s.Host.Processes != 1 {
		t.Errorf("this process: %+v", s.Host)
	}
	if s.Started.Processes != 1 || s.Started.Threads != 1 || s.Started.Memory == 0 || s.Started.Memory >= s.Host.Memory {
		t.Errorf("what it has started: %+v", s.Started)
	}
	if !s.At.After(before.At) || s.CPUPercent < 0 || s.CPUPercent > 100 || s.Processes < 2 || s.Available >= s.MemoryTotal || s.DiskFree > s.DiskTotal || s.DiskTotal == 0 {
		t.Errorf("the machine: %+v", s)
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	if _, rest, _ := strings.Cut(string(text), "MemTotal:"); strings.Fields(rest)[0] != kibibytes(s.MemoryTotal) {
		t.Errorf("%d bytes of memory, and the kernel says %s KiB", s.MemoryTotal, strings.Fields(rest)[0])
	}
	// The next one knows that the process has ended.
	if err := m.measure(t.Context()); err != nil || m.Latest().Started.Processes != 0 {
		t.Errorf("%+v, %v", m.Latest().Started, err)
	}
}

func kibibytes(n uint64) string { return strconv.FormatUint(n>>10, 10) }
