package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/startup"
	"github.com/sop-host/sop/sdk"
)

// sop runs a command line in this process.
func sop(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = newTestApp(Streams{In: strings.NewReader(""), Out: &out, Err: &err}).execute(t.Context(), args)
	return code, out.String(), err.String()
}

func TestExitCodesOfTheAPI(t *testing.T) {
	want := map[codes.Code]int{
		codes.OK: 0, codes.Canceled: 130, codes.Unknown: 1, codes.InvalidArgument: 2, codes.DeadlineExceeded: 7, codes.NotFound: 1,
		codes.AlreadyExists: 6, codes.PermissionDenied: 4, codes.ResourceExhausted: 1, codes.FailedPrecondition: 1, codes.Aborted: 6,
		codes.OutOfRange: 2, codes.Unimplemented: 1, codes.Internal: 1, codes.Unavailable: 5, codes.DataLoss: 1, codes.Unauthenticated: 4,
	}
	socket := filepath.Join(t.TempDir(), "s")
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if got := exitCode(code); got != want[code] {
			t.Errorf("exitCode(%s) = %d, want %d", code, got, want[code])
		}
		if code == codes.OK {
			continue
		}
		name := connect.Code(code).String()
		stop, err := serveFake(socket, "error:"+name)
		if err != nil {
			t.Fatal(err)
		}
		exit, _, stderr := sop(t, "status", "--socket", socket, "-o", "json")
		stop()
		if exit != want[code] {
			t.Errorf("%s: exit code %d, want %d", name, exit, want[code])
		}
		wantJSON := fmt.Sprintf(`{"error":{"code":%q,"reason":"TEST_REASON","message":"the host said %s","remedy":"try something else","fields":[{"field":"spec.x","message":"is wrong"}],"retryable":true,"retry_after":"1.5s","metadata":{"k":"v"}}}`+"\n", name, name)
		if stderr != wantJSON {
			t.Errorf("%s: stderr %s, want %s", name, stderr, wantJSON)
		}
	}
}

func TestErrorText(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	stop, err := serveFake(socket, "error:permission_denied")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	code, stdout, stderr := sop(t, "gap", "list", "--socket", socket)
	if code != exitDenied || stdout != "" || stderr != "error: the host said permission_denied\nfield: spec.x: is wrong\nremedy: try something else\nretry: in 1.5s\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestResultThatCannotBeWritten(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "-o", "json"}, {"help"}, {"completion", "bash"}, {"scan", t.TempDir(), "--fail-on", "low"}} {
		var stderr bytes.Buffer
		code := newTestApp(Streams{Out: brokenWriter{}, Err: &stderr}).execute(t.Context(), args)
		if code != exitFailed || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v: exit code %d, stderr %q", args, code, stderr.String())
		}
	}
}

func TestSocketOfSomebodyElse(t *testing.T) {
	dial := &dialError{socket: "/s", cause: fmt.Errorf("dial: %w", syscall.EACCES)}
	f := explain(connect.NewError(connect.CodeUnavailable, dial))
	if f.exit != exitDenied || f.Reason != "SOCKET_DENIED" || unreachable(dial) {
		t.Errorf("exit code %d, reason %s", f.exit, f.Reason)
	}
}

// TestConnectionThatEnds calls a host that goes away at several points of a call.
func TestConnectionThatEnds(t *testing.T) {
	const begun = "HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 100\r\n\r\n\x0a"
	read := func(conn net.Conn) error {
		_, err := conn.Read(make([]byte, 1<<16))
		return err
	}
	for name, host := range map[string]func(conn net.Conn) error{
		"at once":    func(net.Conn) error { return nil },
		"unanswered": read,
		"half an answer": func(conn net.Conn) error {
			if err := read(conn); err != nil {
				return err
			}
			_, err := conn.Write([]byte(begun))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sop.sock")
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					err = errors.Join(host(conn), conn.Close())
				}
				done <- err
			}()
			var stderr bytes.Buffer
			code := newTestApp(Streams{Out: io.Discard, Err: &stderr}).execute(t.Context(), []string{"token", "list", "--socket", path, "-o", "json"})
			if err := errors.Join(<-done, l.Close()); err != nil {
				t.Fatal(err)
			}
			if code != exitUnreachable || !strings.Contains(stderr.String(), `"reason":"CONNECTION_LOST"`) {
				t.Errorf("exit code %d, stderr %q", code, stderr.String())
			}
		})
	}
}

func TestJoinedErrors(t *testing.T) {
	one := sdk.Errorf(codes.Aborted, "ONE", "one failed").WithRemedy("mend it")
	two := sdk.Errorf(codes.Internal, "TWO", "two failed").WithRemedy("mend it too")
	f := explain(here(errors.Join(errors.Join(one), nil, two)))
	if f.Message != "one failed\ntwo failed" || f.Remedy != "mend it\nmend it too" || f.exit != exitConflict || f.Reason != "ONE" {
		t.Errorf("%+v, exit code %d", f.Error, f.exit)
	}
	if f := explain(fmt.Errorf("both: %w, %w", one, two)); f.Message != "one failed" {
		t.Errorf("message %q", f.Message)
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		code, stdout, stderr := sop(t, strings.Fields(cmd.CommandPath() + " --help")[1:]...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "\nExit codes:\n  0  ok\n") {
			t.Errorf("%s: exit code %d, stderr %q, stdout:\n%s", cmd.CommandPath(), code, stderr, stdout)
		}
		if cmd.Short == "" || !cmd.HasSubCommands() && cmd.Example == "" && cmd.Name() != "help" {
			t.Errorf("%s: no short text or no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newTestApp(Streams{}).newRoot(nil))
}

func TestLongFlags(t *testing.T) {
	root := newTestApp(Streams{}).newRoot(nil)
	for _, tt := range []struct{ in, want string }{
		{"fmt -check -diff", "fmt --check --diff"},
		{"fmt -write=false x", "fmt --write=false x"},
		{"-c x -ojson status", "-c x -ojson status"},
		{"status -output json", "status --output json"},
		{"gap list -- -state", "gap list -- -state"},
		{"nonsense -check", "nonsense -check"},
	} {
		if got := strings.Join(longFlags(root, strings.Fields(tt.in)), " "); got != tt.want {
			t.Errorf("longFlags(%s) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

// The JSON of messages says what protojson says, but for 64-bit numbers.
func TestWire(t *testing.T) {
	status := degradedStatus()
	ours, err := json.Marshal(wire{status})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := errors.Join(json.Unmarshal(ours, &got), json.Unmarshal(theirs, &want)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
		t.Errorf("differs from protojson (-want +got):\n%s", diff)
	}
	if raw, err := json.Marshal(wire{}); err != nil || string(raw) != "null" {
		t.Errorf("no message: %s, %v", raw, err)
	}
}

// plain leaves out what is null and makes numbers strings.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value == nil {
				delete(v, key)
			} else {
				v[key] = plain(value)
			}
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return v
}

func TestFirstConfigIsValid(t *testing.T) {
	path := filepath.Join(t.TempDir(), configName)
	if err := createFile(path, firstConfig); err != nil {
		t.Fatal(err)
	}
	cfg, diagnostics := config.Load(path, config.Options{PluginsDir: "/opt/plugins"})
	if len(diagnostics) > 0 {
		t.Fatal(diagnostics)
	}
	if len(cfg.Plugins) != 2 || len(cfg.Workspaces) != 1 {
		t.Errorf("%d plugins, %d workspaces", len(cfg.Plugins), len(cfg.Workspaces))
	}
	pretty, _ := config.Format(firstConfig, configName)
	if !bytes.Equal(pretty, firstConfig) {
		t.Error("init.hcl is not formatted")
	}
}

func TestGuessDataDir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, configName)
	for src, want := range map[string]string{
		"":                             dir + "/.sop",
		"host {":                       dir + "/.sop",
		"host {\n data_dir = \"x\"\n ": dir + "/x",
		"host {\n data_dir = \"/y/\"\n bogus = \n}":                 "/y",
		"host {\n data_dir = \"${path.config}/z\"\n}\nplugin \"a\"": dir + "/z",
		"host {\n data_dir = env(\"X\")\n}":                         dir + "/.sop",
		"host {\n data_dir = [1]\n}":                                dir + "/.sop",
	} {
		if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{file, dir} {
			if got := guessDataDir(path); got != want {
				t.Errorf("%q at %s: %s, want %s", src, path, got, want)
			}
		}
	}
	if got, want := guessDataDir(filepath.Join(dir, "gone.hcl")), dir+"/.sop"; got != want {
		t.Errorf("deleted: %s, want %s", got, want)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 999 * time.Millisecond: "0s", 59 * time.Second: "59s", time.Minute: "1m", 61 * time.Second: "1m1s",
		time.Hour: "1h", 25*time.Hour + 59*time.Minute: "1d1h", 48 * time.Hour: "2d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestInterrupts(t *testing.T) {
	exited := make(chan int, 1)
	ctx, stop := interruptible(context.Background(), func(code int) { exited <- code })
	defer stop()
	interrupt := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	interrupt()
	<-ctx.Done()
	select {
	case code := <-exited:
		t.Fatalf("the first interrupt ended the process with %d", code)
	default:
	}
	interrupt()
	if code := <-exited; code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
}

func TestScanQueue(t *testing.T) {
	q := newScanQueue()
	for range 300 {
		q.add(testWorkspace())
	}
	q.close()
	q.add(testWorkspace())
	n := 0
	for range q.ended {
		n++
	}
	if n != cap(q.ended) {
		t.Errorf("%d scans", n)
	}
}

// upHost runs a host that scans twice; it ends with ctx.
func upHost(socket string) func(context.Context, startup.Options) error {
	return func(ctx context.Context, opt startup.Options) error {
		stop, err := serveFake(socket, "ok")
		if err != nil {
			return err
		}
		defer stop()
		opt.OnStep(startup.Step{Component: "host", Phase: "ready"})
		opt.OnScan(testWorkspace())
		opt.OnScan(testWorkspace())
		<-ctx.Done()
		opt.OnStep(startup.Step{Elapsed: time.Second, Component: "host", Phase: "stopped"})
		return ctx.Err()
	}
}

// signalWriter tells when a text has been written.
type signalWriter struct {
	bytes.Buffer
	text string
	seen func()
}

func (w *signalWriter) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.Contains(w.String(), w.text) {
		w.seen()
	}
	return n, err
}

func runUp(t *testing.T, until string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	path, socket := filepath.Join(dir, configName), filepath.Join(dir, "s")
	if err := createFile(path, firstConfig); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	out := &signalWriter{text: until, seen: cancel}
	a := newTestApp(Streams{Out: out, Err: &stderr})
	a.engine.Run = upHost(socket)
	code := a.execute(ctx, append([]string{"up", "-c", path, "--socket", socket}, args...))
	if code != exitOK || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %s", code, stderr.String())
	}
	return out.String()
}

func TestUpShowsTheFirstScan(t *testing.T) {
	want := `    0.000s  host                    ready

workspace main  /srv/main
  120 files in 1.23s; gaps: 3 open: 1 high, 1 medium, 1 low
  skipped: 30 binary, 7 vendored
  1 not examined, see ` + "`sop status -o json`" + `

  high
    cmd/run.go:12         code.stub         Run is a stub

  medium
    .                     docs.readme       there is no README

  low
    a\u202e\x1b[31m.go:3  docs.go.exported  exported <T> has no comment

where to look next, from another terminal:
  sop gap list    all gaps, worst first
  sop status      how the host and its plugins stand
  sop gap show 019cb000-0000-7000-8000-000000000001

12:00:00  workspace main scanned: 3 new, 0 back, 0 resolved; gaps: 3 open: 1 high, 1 medium, 1 low
    1.000s  host                    stopped
`
	if diff := cmp.Diff(want, runUp(t, "workspace main scanned")); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestUpJSON(t *testing.T) {
	out := runUp(t, `"first":false`, "-o", "json")
	var kinds []string
	for line := range strings.Lines(out) {
		var object struct {
			Type  string           `json:"type"`
			Worst []map[string]any `json:"worst_gaps"`
		}
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		kinds = append(kinds, fmt.Sprint(object.Type, len(object.Worst)))
	}
	if diff := cmp.Diff([]string{"step0", "scan3", "scan0", "step0"}, kinds); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestWatchEndsQuietly(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	stop, err := serveFake(socket, "forever")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stderr bytes.Buffer
	out := &signalWriter{text: "Ctrl-C ends this", seen: cancel}
	a := newTestApp(Streams{Out: out, Err: &stderr, OutTerminal: true, Size: func() (int, int) { return 80, 6 }})
	if code := a.execute(ctx, []string{"status", "--watch", "--socket", socket}); code != exitOK {
		t.Errorf("exit code %d, stderr %s", code, stderr.String())
	}
	if !strings.HasPrefix(out.String(), "\x1b[H") || strings.Count(out.String(), "\n")%5 != 0 {
		t.Errorf("screen %q", out.String())
	}
}
