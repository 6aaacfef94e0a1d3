package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childEnv makes the test binary a child: its value says how it behaves.
const childEnv = "SOP_TEST_CGROUP_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		behave(mode)
		return
	}
	goleak.VerifyTestMain(m)
}

// behave prints a first line when it has done what the mode says, and stays.
func behave(mode string) {
	switch mode {
	case "where": // the first thing that it sees of itself
		data, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			panic(err)
		}
		fmt.Println(strings.ReplaceAll(string(data), "\n", " "))
	case "family": // children, each in a session of its own
		for range 5 {
			cmd := exec.Command("sleep", "300")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Start(); err != nil {
				panic(err)
			}
		}
		fmt.Println("ready")
	case "forks": // as many as it gets
		refused := 0
		for refused < 20 {
			if exec.Command("sleep", "300").Start() != nil {
				refused++
			}
		}
		fmt.Println("ready")
	case "eats": // more than it may
		var hold [][]byte
		for range 1 << 10 {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			hold = append(hold, b)
		}
		runtime.KeepAlive(hold)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	<-signals
}

// child is a process in a group.
type child struct {
	*os.Process
	first string // the first line that it printed
	state func() *os.ProcessState
}

// start starts the test binary in g.
func start(t *testing.T, g *Group, mode string) *child {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		p   *os.Process
		err error
	}
	done := make(chan result)
	go OnThread(func() {
		attr := &syscall.SysProcAttr{Setsid: true}
		p, err := g.Start(attr, func() (*os.Process, error) {
			return os.StartProcess(exe, []string{exe}, &os.ProcAttr{
				Env: append(os.Environ(), childEnv+"="+mode), Files: []*os.File{nil, w, os.Stderr}, Sys: attr,
			})
		})
		done <- result{p, err}
	})
	res := <-done
	_ = w.Close()
	if res.err != nil {
		t.Fatal(res.err)
	}
	c := &child{Process: res.p}
	c.state = sync.OnceValue(func() *os.ProcessState {
		s, err := res.p.Wait()
		if err != nil {
			t.Error(err)
		}
		return s
	})
	c.first, err = bufio.NewReader(r).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Kill() // it has ended, or does now
		c.state()
	})
	return c
}

// opened is a tree of the real kernel that is closed at the end; the test is
// skipped where there is none that can limit want.
func opened(t *testing.T, want ...Resource) *Tree {
	t.Helper()
	tree, err := Open(Options{Owner: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if tree.Refused() != nil {
		t.Skipf("no cgroups here: %v", tree.Refused())
	}
	for _, r := range want {
		if err := tree.Missing(r); err != nil {
			t.Skipf("no limit of %s here: %v", r, err)
		}
	}
	return tree
}

// group is a new group of tree that is ended and removed at the end.
func group(t *testing.T, tree *Tree, l Limits) *Group {
	t.Helper()
	g, err := tree.New(t.Name(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end(t, g)
		if err := g.Remove(); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	return g
}

// end kills what is in g.
func end(t *testing.T, g *Group) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := g.Kill(ctx); err != nil {
		t.Errorf("kill: %v", err)
	}
}
