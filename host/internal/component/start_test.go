package component

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
)

// Each is started when what it depends on is ready, and stopped before it; what
// does not depend on each other is started side by side.
func TestOrder(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	slow := "sleep 0.05; echo up; exec sleep 300"
	s.start(
		shell("c", slow, saying("up"), after("b")),
		shell("b", slow, saying("up"), after("a", "x")),
		shell("a", slow, saying("up")),
		shell("x", slow, saying("up")),
	)
	for _, st := range s.Status() {
		if st.State != StateReady || st.PID == 0 || !alive(st.PID) {
			t.Errorf("%+v", st)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := func(first, second string) {
		t.Helper()
		all := s.history()
		if i, j := slices.Index(all, first), slices.Index(all, second); i < 0 || j < 0 || i > j {
			t.Errorf("%q (%d) is not before %q (%d): %v", first, i, second, j, all)
		}
	}
	before("a ready", "b starting")
	before("x ready", "b starting")
	before("x starting", "a ready")
	before("a starting", "x ready")
	before("b ready", "c starting")
	before("c stopped", "b stopping")
	before("b stopped", "a stopping")
}

// Whoever is told slowly of a step is told all the same before what follows from
// it: a timeline never has a component start before what it waited for is ready.
func TestStepsAreToldInOrder(t *testing.T) {
	follows := map[string]chan struct{}{"b starting": make(chan struct{}), "a stopping": make(chan struct{})}
	awaited := map[string]string{"a ready": "b starting", "b stopped": "a stopping"}
	s := newSupervisor(t, t.TempDir(), func(o *Options) {
		note := o.OnEvent
		o.OnEvent = func(e Event) {
			step := e.Name + " " + string(e.Phase)
			if c, ok := follows[step]; ok {
				close(c)
			}
			if next, ok := awaited[step]; ok {
				select {
				case <-follows[next]:
					t.Errorf("%q while %q was being told", next, step)
				case <-time.After(100 * time.Millisecond): // it must not come
				}
			}
			note(e)
		}
	})
	s.start(shell("a", "exec sleep 300"), shell("b", "exec sleep 300", after("a")))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.Stop(ctx, "a", true); err != nil {
		t.Fatal(err)
	}
	all := s.history()
	if want := []string{"a stopping", "a stopped"}; !slices.Equal(all[len(all)-2:], want) || !slices.Contains(all, "b stopped") {
		t.Errorf("told of %v, with %v at the end", all, want)
	}
}

func TestProbes(t *testing.T) {
	dir := t.TempDir()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(filepath.Join(dir, "web")); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	path := filepath.Join(dir, "s")
	onSocket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	local := &httptest.Server{Listener: onSocket, Config: &http.Server{Handler: web.Config.Handler, ReadHeaderTimeout: patience}}
	local.Start()
	defer local.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	probe := func(r Readiness) func(*Spec) {
		return func(s *Spec) {
			r.Interval, r.Timeout = 10*time.Millisecond, 5*time.Second
			s.Readiness = r
		}
	}
	stale := filepath.Join(dir, "stale")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * clockGrain) // the file is to be older than the component
	s := newSupervisor(t, dir)
	s.start(
		shell("log", "echo starting; echo it is listening now; exec sleep 300", saying("is listening")),
		shell("file", "sleep 0.05; echo > "+stale+"; exec sleep 300", probe(Readiness{Kind: ProbeFile, Target: stale})),
		shell("http", "sleep 0.05; : > "+dir+"/web; exec sleep 300", probe(Readiness{Kind: ProbeHTTP, Target: web.URL})),
		shell("socket", "exec sleep 300", probe(Readiness{Kind: ProbeHTTP, Target: "http://web/health", Socket: path}), after("http")),
		shell("tcp", "exec sleep 300", probe(Readiness{Kind: ProbeTCP, Target: listener.Addr().String()})),
		shell("grpc", "exec sleep 300", probe(Readiness{Kind: ProbeGRPC, Target: listener.Addr().String()})),
		shell("exec", "sleep 0.05; : > "+dir+"/exec; exec sleep 300", probe(Readiness{Kind: ProbeExec, Exec: []string{"test", "-e", dir + "/exec"}})),
		shell("notify", "sleep 0.05; exec python3 -c 'import os,socket,time; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.sendto(b\"STATUS=x\\nREADY=1\\n\",os.environ[\"NOTIFY_SOCKET\"]); time.sleep(300)'", func(s *Spec) { s.Readiness = Readiness{Kind: ProbeNotify} }),
	)
	for _, st := range s.Status() {
		if st.State != StateReady {
			t.Errorf("%s is %s: %v", st.Name, st.State, st.LastError)
		}
	}
	if took := s.status("file").Since.Sub(s.status("file").StartedAt); took < 50*time.Millisecond {
		t.Errorf("the file of an earlier run counted: ready after %v", took)
	}
}

// Hostile components fail as such, are told apart, and leave nothing.
func TestHostile(t *testing.T) {
	once := func(s *Spec) { s.RestartPolicy = RestartNever }
	quick := func(s *Spec) { s.StartTimeout, s.StopGrace = 300*time.Millisecond, 100*time.Millisecond }
	never := func(s *Spec) {
		s.Readiness = Readiness{Kind: ProbeTCP, Target: "127.0.0.1:1", Interval: 20 * time.Millisecond, Timeout: 100 * time.Millisecond}
	}
	tests := map[string]struct {
		spec   *Spec
		state  State
		reason string
		words  string
	}{
		"no program":  {shell("c", "", func(s *Spec) { s.Command = "/no/such/program" }), StateFailed, ReasonCommand, "cannot be executed"},
		"no format":   {shell("c", "", func(s *Spec) { s.Command = noProgram(t) }), StateFailed, ReasonCommand, "exec format error"},
		"no dir":      {shell("c", "", func(s *Spec) { s.Dir = "/no/such/dir" }), StateFailed, ReasonCommand, "not a directory"},
		"exits 0":     {shell("c", "exit 0", saying("never")), StateFailed, ReasonCrashLoop, "exited with code 0 before it was ready"},
		"exits 3":     {shell("c", "echo oh no; exit 3", once), StateCompleted, ReasonExited, "exited with code 3; it last said: oh no"},
		"is killed":   {shell("c", "kill -9 $$", once), StateCompleted, ReasonExited, "was killed by SIGKILL"},
		"forks away":  {shell("c", "setsid sleep 300 & exit 0", saying("never")), StateFailed, ReasonCrashLoop, "before it was ready"},
		"never ready": {shell("c", "exec sleep 300", never, quick, once), StateFailed, ReasonStartTimeout, "not ready within 300ms; its probe said: "},
		"deaf":        {shell("c", "trap '' TERM; sleep 300; sleep 300", never, quick, once), StateFailed, ReasonStartTimeout, "not ready within"},
		"too little":  {shell("c", "exec sleep 300", func(s *Spec) { s.Limits = cgroup.Limits{Memory: 1} }, once), StateFailed, "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSupervisor(t, t.TempDir())
			if name == "too little" {
				s.start()
				if s.cgroups.Refused() != nil {
					t.Skipf("no cgroups: %v", s.cgroups.Refused())
				}
				return
			}
			s.start(test.spec)
			st := s.await("c", test.state)
			if st.LastError == nil || st.LastError.Reason != test.reason || !strings.Contains(st.LastError.Message, test.words) {
				t.Errorf("%+v", st.LastError)
			}
			if left := owned(s.owner); len(left) > 0 {
				t.Errorf("processes left: %v", left)
			}
		})
	}
}

// noProgram is a file that may be executed, and is nothing that can be.
func noProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// Output without end is read as fast as it comes, and a bounded part of it is kept.
func TestFlood(t *testing.T) {
	dir := t.TempDir()
	s := newSupervisor(t, dir)
	size := "128M"
	if os.Getenv("SOP_TEST_LONG") != "" {
		size = "1G"
	}
	if err := s.Start([]*Spec{shell("flood", `yes `+strings.Repeat("x", 200)+` | head -c `+size+`; echo; echo done; exec sleep 300`, saying("^done"), func(s *Spec) { s.StartTimeout = 5 * time.Minute })}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := s.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	st := s.status("flood")
	if st.State != StateReady || st.DroppedLines == 0 {
		t.Fatalf("%+v", st)
	}
	files, err := filepath.Glob(filepath.Join(dir, "logs", "flood.log*"))
	if err != nil {
		t.Fatal(err)
	}
	var kept int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		kept += info.Size()
	}
	if kept > logFiles*(maxLogFile+maxLine) {
		t.Errorf("%d bytes are kept", kept)
	}
	t.Logf("%s taken in %v; %d bytes kept, %d lines dropped", size, st.Since.Sub(st.StartedAt), kept, st.DroppedLines)
}

// What a component prints can be read from the beginning and followed.
func TestLogs(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	s.start(shell("c", "echo one; echo two; while read line; do echo $line; done < "+fifo(t)+"; exec sleep 300", saying("two")))
	ctx, cancel := context.WithCancel(t.Context())
	lines := make(chan string, 100)
	done := make(chan error, 1)
	go func() {
		done <- s.Logs(ctx, "c", 10, true, func(all []Line) error {
			for _, l := range all {
				lines <- l.Text
			}
			return nil
		})
	}()
	if a, b := <-lines, <-lines; a != "one" || b != "two" {
		t.Errorf("%q, %q", a, b)
	}
	if err := os.WriteFile(fifos[t.Name()], []byte("three \x1b[31m\n"), 0); err != nil {
		t.Fatal(err)
	}
	if c := <-lines; c != "three \uFFFD[31m" {
		t.Errorf("%q", c)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	var last []string
	if err := s.Logs(t.Context(), "c", 2, false, func(all []Line) error {
		for _, l := range all {
			last = append(last, l.Text)
		}
		return nil
	}); err != nil || fmt.Sprint(last) != "[two three \uFFFD[31m]" {
		t.Errorf("%q, %v", last, err)
	}
}

// What a component printed can be read when it is configured no more, and nothing else.
func TestLogsOfOneThatIsGone(t *testing.T) {
	dir := t.TempDir()
	s := newSupervisor(t, dir)
	s.start(shell("c", "echo last words; exec sleep 300", saying("^last")))
	change, err := s.Prepare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	if err := os.WriteFile(filepath.Join(dir, "other.log"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	keep := func(all []Line) error {
		for _, l := range all {
			got = append(got, l.Text)
		}
		return nil
	}
	if err := s.Logs(t.Context(), "c", 10, true, keep); err != nil || fmt.Sprint(got) != "[last words]" {
		t.Errorf("%v, %v", got, err)
	}
	for _, name := range []string{"d", "../other", ""} {
		if err := s.Logs(t.Context(), name, 10, false, keep); failure(err) == nil || failure(err).Reason != ReasonUnknown {
			t.Errorf("%q: %v", name, err)
		}
	}
}

var fifos = make(map[string]string)

func fifo(t *testing.T) string {
	t.Helper()
	r := &record{base: filepath.Join(t.TempDir(), "in")}
	f, err := r.makeOutput()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	fifos[t.Name()] = r.outputPath()
	return r.outputPath()
}

// Who moves the log of a component away, or removes its directory, finds what it
// prints then in a new one.
func TestLogIsFollowed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	o, err := newOutput(dir, "c")
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	add := func(text string) {
		t.Helper()
		o.looked = time.Time{} // it is time to look
		o.add([]byte(text))
	}
	holds := func(path string, want int) {
		t.Helper()
		if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), "\n") != want {
			t.Errorf("%s holds %q, want %d lines: %v", path, text, want, err)
		}
	}
	add("one")
	add("two")
	holds(o.path, 2)
	if err := os.Rename(o.path, o.path+".old"); err != nil {
		t.Fatal(err)
	}
	add("three")
	holds(o.path+".old", 2)
	holds(o.path, 1)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	add("four")
	add("five")
	holds(o.path, 2)
}

// Who removes the directories of the supervisor does not keep components from being
// started again, and none is lost sight of.
func TestDirectoriesRemoved(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	s.start(
		shell("log", "echo up; exec sleep 300", saying("up")),
		shell("survivor", "echo up; exec sleep 300", saying("up"), func(s *Spec) { s.Survives = true }),
	)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 2 {
		for _, dir := range []string{s.opt.Dir, s.opt.LogDir} {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"log", "survivor"} {
			if err := s.Restart(ctx, name); err != nil {
				t.Fatal(err)
			}
			if records, err := readRecords(s.opt.Dir); err != nil || !slices.ContainsFunc(records, func(r *record) bool { return r.Component == name && r.Process.PID == s.status(name).PID }) {
				t.Errorf("%s is not recorded: %v, %v", name, records, err)
			}
		}
	}
}
