package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// The test binary is also the sop command of the scripts, with a fake engine
// and a fixed clock.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"sop": scriptedSop})
}

type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func scriptedSop() {
	streams := Standard()
	if columns, err := strconv.Atoi(os.Getenv("TEST_TERMINAL")); err == nil {
		streams.OutTerminal, streams.ErrTerminal = true, true
		streams.Size = func() (int, int) { return columns, 24 }
	}
	ctx, stop := interruptible(context.Background(), os.Exit)
	a := newTestApp(streams)
	a.engine = fakeEngine(os.Getenv("TEST_ENGINE"))
	a.env = os.Getenv
	code := a.execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv("SOP_PLUGINS_DIR", filepath.Join(env.WorkDir, "plugins"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": runExits,
			"host":  startHost,
		},
	})
}

// runExits runs a command and checks its exit code: exits 3 sop plan.
func runExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit interface{ ExitCode() int }
		var ok bool
		if exit, ok = err.(interface{ ExitCode() int }); !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// startHost serves the API as in a scenario: host SCENARIO [SOCKET].
func startHost(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: host SCENARIO [SOCKET]")
	}
	socket := filepath.Join(".sop", "state", "sop.sock")
	if len(args) == 2 {
		socket = args[1]
	}
	stop, err := serveFake(ts.MkAbs(socket), args[0])
	ts.Check(err)
	ts.Defer(stop)
}
