package startup

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/sop-host/sop/host/internal/socket"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
	"github.com/sop-host/sop/sdk/trace"

	"github.com/sop-host/sop/host/internal/api"
)

// detectorEnv makes the test binary a detector.
const detectorEnv = "SOP_TEST_DETECTOR"

func TestMain(m *testing.M) {
	if mode := os.Getenv(detectorEnv); mode != "" {
		word := sdk.Attribute{Name: "word", Type: sdk.String, Default: "bad"}
		if mode == "odd" {
			word.Type = "nonsense"
		}
		sdk.Serve(detector.Kind, sdk.Plugin[detector.Detector]{
			Name: "words", Version: "1.0.0", Impl: words{},
			Schema: sdk.Schema{Attributes: []sdk.Attribute{word}},
			Configure: func(_ context.Context, c *sdk.Config) error {
				var s struct {
					Word string `json:"word"`
				}
				if err := c.Decode(&s); err != nil {
					return err
				}
				if s.Word == "" {
					return &sdk.ConfigError{Attribute: "word", Summary: "the word is empty", Detail: "Name one."}
				}
				return nil
			},
		})
		return
	}
	if config := os.Getenv(hostEnv); config != "" {
		runUntilKilled(config)
		return
	}
	// lumberjack keeps one goroutine for each log file that it has rotated.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

// words reports every file that contains "bad".
type words struct{}

func (words) Rules(context.Context) ([]*pluginv1.Rule, error) {
	return []*pluginv1.Rule{{Id: "words.bad", Version: "1", Type: pluginv1.GapType_GAP_TYPE_CODE_QUALITY, DefaultSeverity: pluginv1.Severity_SEVERITY_HIGH}}, nil
}

func (words) Scan(ctx context.Context, s *detector.Scan) (err error) {
	ctx, span := trace.Start(ctx, "look for words")
	span.Set("word", "bad")
	defer func() { span.End(err) }()
	return s.Each(ctx, func(detector.File) bool { return true }, func(src *detector.Source) error {
		if strings.Contains(string(src.Content), "bad") {
			src.Report(&pluginv1.Finding{Rule: "words.bad", Location: &pluginv1.Location{Line: 1}, Message: "bad", Remedy: "Mend it."})
		}
		return nil
	})
}

// site is a configuration with a workspace, and the host that runs on it.
type site struct {
	t      *testing.T
	dir    string
	config string
	exe    string

	mu    sync.Mutex
	steps []Step
	stop  context.CancelFunc
	done  chan error
	ready chan struct{}
	scans chan *apiv1.WorkspaceStatus
	anew  chan struct{} // the socket was made
}

func newSite(t *testing.T) *site {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: t.TempDir(), exe: exe, scans: make(chan *apiv1.WorkspaceStatus, 16), anew: make(chan struct{}, 16)}
	s.config = filepath.Join(s.dir, "config.hcl")
	s.write("work/a.txt", "bad\n")
	s.configure("")
	return s
}

func (s *site) write(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

// configure writes the configuration, with more at its end.
func (s *site) configure(more string) {
	s.write("config.hcl", fmt.Sprintf(`
host {
  data_dir        = "data"
  reload_debounce = "10ms"
}
workspace "main" {
  path = "work"
}
plugin "detector" "words" {
  command = %q
  env     = { %s = "1", GORACE = "atexit_sleep_ms=0" }
}
%s`, s.exe, detectorEnv, more))
}

func (s *site) lock() []LockChange {
	s.t.Helper()
	changes, err := Lock(s.t.Context(), s.config, "", "test", false)
	if err != nil {
		s.t.Fatal(err)
	}
	return changes
}

func (s *site) start() {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	s.stop, s.done, s.ready = stop, make(chan error, 1), make(chan struct{})
	go func() {
		s.done <- Run(ctx, Options{
			ConfigPath: s.config, Version: "test", OnStep: s.onStep, OnScan: func(w *apiv1.WorkspaceStatus) { s.scans <- w },
			traceEvery: 10 * time.Millisecond, socketEvery: 10 * time.Millisecond,
		})
	}()
	select {
	case <-s.ready:
	case err := <-s.done:
		s.t.Fatalf("the host did not start: %v", err)
	}
	s.t.Cleanup(s.end)
}

func (s *site) onStep(step Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, step)
	if step.Component == "host" && step.Phase == "ready" {
		close(s.ready)
	}
	if strings.HasSuffix(step.Detail, "made anew") {
		s.anew <- struct{}{}
	}
}

// end stops the host and checks that nothing is left.
func (s *site) end() {
	s.t.Helper()
	if s.stop == nil {
		return
	}
	s.stop()
	if err := <-s.done; err != nil {
		s.t.Errorf("the host ended with: %v", err)
	}
	s.stop = nil
	if left, err := os.ReadDir(filepath.Join(s.dir, "data", "run")); err != nil || len(left) > 0 {
		s.t.Errorf("left in run/: %v, %v", left, err)
	}
	if _, err := os.Stat(socket.Path(filepath.Join(s.dir, "data"))); err == nil {
		s.t.Error("the socket was left")
	}
}

// http returns a client of the host's API.
func (s *site) http() *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return api.Dial(ctx, socket.Path(filepath.Join(s.dir, "data")))
	}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// await watches the status until it is as it should be.
func (s *site) await(what string, cond func(*apiv1.Status) bool) *apiv1.Status {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	stream, err := apiv1connect.NewHostClient(s.http(), "http://sop").WatchStatus(ctx, connect.NewRequest(&apiv1.WatchStatusRequest{}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		if st := stream.Msg().GetStatus(); cond(st) {
			return st
		}
	}
	s.t.Fatalf("waited in vain for: %s: %v; last status %v", what, stream.Err(), stream.Msg().GetStatus())
	return nil
}

func TestRun(t *testing.T) {
	s := newSite(t)
	if changes := s.lock(); len(changes) != 1 || changes[0].Action != "added" || changes[0].Version != "1.0.0" {
		t.Errorf("lock: %+v", changes)
	}
	if changes := s.lock(); changes[0].Action != "unchanged" {
		t.Errorf("lock again: %+v", changes)
	}
	s.start()
	first := <-s.scans
	if first.GetGaps().GetHigh() != 1 || !first.GetLastScan().GetComplete() {
		t.Errorf("first scan: %v", first)
	}
	st := s.await("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	if p := st.GetPlugins()[0]; p.GetState() != "ready" || p.GetGeneration() != 1 || p.GetPid() == 0 {
		t.Errorf("plugin: %v", p)
	}
	s.end()

	// A second host goes on from the state of the first.
	s.write("work/a.txt", "good\n")
	s.start()
	second := <-s.scans
	if r := second.GetLastScan(); r.GetResolved() != 1 || r.GetOpened() != 0 {
		t.Errorf("second scan: %v", r)
	}
}

// The lock file says what the programs say now, whatever has become of it.
func TestLockIsMended(t *testing.T) {
	s := newSite(t)
	s.lock()
	path := filepath.Join(s.dir, "sop.lock.hcl")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []*strings.Replacer{strings.NewReplacer("1.0.0", "9.9.9"), strings.NewReplacer("bad", "mad")} {
		s.write("sop.lock.hcl", damage.Replace(string(want)))
		if changes, err := Lock(t.Context(), s.config, "", "test", true); err != nil || len(changes) == 0 || changes[0].Action != "updated" {
			t.Errorf("a check: %+v, %v", changes, err)
		}
		s.lock()
		if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
			t.Errorf("locked %s, %v", got, err)
		}
	}
}

// What cannot be locked is named, with what to do about it where no host runs.
func TestLockRefuses(t *testing.T) {
	s := newSite(t)
	s.configure(fmt.Sprintf("plugin \"detector\" \"none\" {\n command = \"/bin/true\"\n}\nplugin \"detector\" \"odd\" {\n command = %q\n env = { %s = \"odd\" }\n}\n", s.exe, detectorEnv))
	changes, err := Lock(t.Context(), s.config, "", "test", false)
	if len(changes) != 1 || err == nil || !strings.Contains(err.Error(), "plugin detector.odd: ") || !strings.Contains(err.Error(), "a SOP plugin stays") {
		t.Errorf("%+v, %v", changes, err)
	}
	if e := sdk.FromError(err); !strings.Contains(e.Remedy, "check that /bin/true is a SOP plugin") {
		t.Errorf("remedy: %s", e.Remedy)
	}
}

func TestReload(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	pid := s.await("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" }).GetPlugins()[0].GetPid()

	refused := []struct{ name, more, says string }{
		{"syntax", "plugin {", "config.hcl:"},
		{"unknown attribute", "locals { }\nworkspace \"x\" {\n paths = \"/\"\n}\n", "Did you mean"},
		{"not locked", fmt.Sprintf("plugin \"detector\" \"other\" {\n command = %q\n}\n", s.exe), "sop plugin lock"},
		{"missing workspace", "workspace \"x\" {\n path = \"nowhere\"\n}\n", "cannot be governed"},
	}
	for _, tt := range refused {
		s.configure(tt.more)
		st := s.await(tt.name+" refused", func(st *apiv1.Status) bool {
			r := st.GetLastReload()
			return !r.GetOk() && strings.Contains(fmt.Sprint(r.GetDiagnostics()), tt.says)
		})
		if st.GetPlugins()[0].GetPid() != pid || st.GetState() != "degraded" || len(st.GetPlugins()) != 1 {
			t.Errorf("%s: what ran was touched: %v", tt.name, st)
		}
		s.configure("")
		s.await("mended", func(st *apiv1.Status) bool { return st.GetState() == "ok" && st.GetLastReload().GetOk() })
	}

	// The plugin's own refusal stands at the line of the attribute.
	bad := func(word string) string {
		return fmt.Sprintf("plugin \"detector\" \"more\" {\n  command = %q\n  env = { %s = \"1\" }\n  config {\n    word = %q\n  }\n}\n", s.exe, detectorEnv, word)
	}
	s.configure(bad("other"))
	s.await("not locked", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })
	s.lock()
	st := s.await("added", func(st *apiv1.Status) bool { return len(st.GetPlugins()) == 2 && st.GetState() == "ok" })
	if st.GetPlugins()[1].GetPid() != pid {
		t.Errorf("the other plugin was restarted: %v", st.GetPlugins())
	}
	s.configure(bad(""))
	st = s.await("refused by the plugin", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })
	if d := st.GetLastReload().GetDiagnostics()[0]; !strings.Contains(d.GetText(), `word = ""`) || d.GetLine() == 0 || d.GetColumn() == 0 || d.GetDetail() != "Name one." {
		t.Errorf("diagnostic: %v", d)
	}
	s.configure("")
	st = s.await("removed", func(st *apiv1.Status) bool { return len(st.GetPlugins()) == 1 && st.GetLastReload().GetOk() })
	if st.GetPlugins()[0].GetPid() != pid {
		t.Error("an unchanged plugin was restarted")
	}
}

func TestPlanAndScanOverTheAPI(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	<-s.scans
	s.write("work/b.txt", "bad\n")
	scan, err := apiv1connect.NewWorkspaceClient(s.http(), "http://sop").ScanWorkspace(t.Context(), connect.NewRequest(&apiv1.ScanWorkspaceRequest{Workspace: "main"}))
	if err != nil || scan.Msg.GetScan().GetOpened() != 1 {
		t.Errorf("scan: %v, %v", scan, err)
	}
	if _, err := apiv1connect.NewWorkspaceClient(s.http(), "http://sop").ScanWorkspace(t.Context(), connect.NewRequest(&apiv1.ScanWorkspaceRequest{Workspace: "nope"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("unknown workspace: %v", err)
	}
	plan, err := apiv1connect.NewHostClient(s.http(), "http://sop").Plan(t.Context(), connect.NewRequest(&apiv1.PlanRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range plan.Msg.GetChanges() {
		if c.GetAction() != "unchanged" {
			t.Errorf("planned: %v", c)
		}
	}
}

func TestOneHostOnADataDirectory(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	err := Run(t.Context(), Options{ConfigPath: s.config})
	if e := sdk.FromError(err); e == nil || e.Reason != "HOST_RUNNING" || !strings.Contains(e.Message, fmt.Sprint(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	lock := dataDir(filepath.Join(s.dir, "data")).lockFile()
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), Options{ConfigPath: s.config})
	if e := sdk.FromError(err); e == nil || e.Reason != "HOST_RUNNING" || !strings.Contains(e.Message, lock) {
		t.Errorf("without the lock file: %v", err)
	}
}

// A socket that is removed under the host is there again, and for the same callers.
func TestSocketThatIsRemoved(t *testing.T) {
	s := newSite(t)
	s.configure("api {\n  socket_mode = \"0666\"\n}\n")
	s.lock()
	s.start()
	path := socket.Path(filepath.Join(s.dir, "data"))
	for range 3 {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		<-s.anew
		s.await("an answer", func(*apiv1.Status) bool { return true })
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
			t.Errorf("the socket is %v, %v", info, err)
		}
	}
}

func TestPluginThatIsNotLockedDoesNotKeepTheHostFromStarting(t *testing.T) {
	s := newSite(t)
	s.start()
	st := s.await("degraded", func(st *apiv1.Status) bool { return st.GetState() == "degraded" })
	if e := st.GetPlugins()[0].GetLastError(); e.GetReason() != "PLUGIN_NOT_LOCKED" || !strings.Contains(e.GetRemedy(), "sop plugin lock") {
		t.Errorf("last error: %v", e)
	}
	s.lock() // the host watches the lock file
	s.await("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	if err := os.Remove(filepath.Join(s.dir, "sop.lock.hcl")); err != nil {
		t.Fatal(err)
	}
	_, err := apiv1connect.NewPluginClient(s.http(), "http://sop").RestartPlugin(t.Context(), connect.NewRequest(&apiv1.RestartPluginRequest{Id: "detector.words"}))
	if err == nil || !strings.Contains(err.Error(), "is not in the lock file") {
		t.Errorf("restarted without a lock file: %v", err)
	}
}

func TestScanOnce(t *testing.T) {
	work := t.TempDir()
	if err := os.WriteFile(filepath.Join(work, "x.go"), []byte("package x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ScanOnce(t.Context(), ScanOptions{Path: work, PluginsDir: t.TempDir()}); sdk.FromError(err).Reason != "NO_DETECTORS" {
		t.Errorf("without detectors: %v", err)
	}
	if _, err := ScanOnce(t.Context(), ScanOptions{Path: filepath.Join(work, "x.go")}); sdk.FromError(err).Reason != "SCAN_PATH" {
		t.Errorf("a file: %v", err)
	}
}
