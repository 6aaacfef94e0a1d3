package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// hostilePlugin is the block of the ill-behaved plugin.
func hostilePlugin(command, mode string, more ...string) string {
	return "plugin \"detector\" \"hostile\" {\n  command = \"" + command + "\"\n  env = {\n    HOSTILE_MODE = \"" + mode +
		"\"\n    HOSTILE_DONE = \"" + command + ".done\"\n  }\n  " + strings.Join(more, "\n  ") + "\n}\n"
}

// reloaded waits for the verdict on what was done since before.
func (h *host) reloaded(before *apiv1.Status) *apiv1.Status {
	h.t.Helper()
	return h.waitFor("a new verdict on the configuration", func(s *apiv1.Status) bool { return newer(s, before) })
}

// newer says whether there has been a verdict since before.
func newer(s, before *apiv1.Status) bool {
	return s.GetLastReload().GetAt().AsTime().After(before.GetLastReload().GetAt().AsTime())
}

// diagnosticTexts returns what the last verdict says.
func diagnosticTexts(s *apiv1.Status) []string {
	var texts []string
	for _, d := range s.GetLastReload().GetDiagnostics() {
		texts = append(texts, d.GetSummary()+" "+d.GetDetail())
	}
	return texts
}

// samePlugins asserts that every process that served before still does.
func samePlugins(t *testing.T, before, after *apiv1.Status) {
	t.Helper()
	if len(before.GetPlugins()) != len(after.GetPlugins()) {
		t.Errorf("there were %d plugins and now are %d", len(before.GetPlugins()), len(after.GetPlugins()))
	}
	for _, was := range before.GetPlugins() {
		is := plugin(after, was.GetId())
		if is.GetState() != "ready" || is.GetPid() != was.GetPid() || is.GetGeneration() != was.GetGeneration() || is.GetRestarts() != was.GetRestarts() {
			t.Errorf("plugin %s was disturbed: %v, then %v", was.GetId(), was, is)
		}
	}
}

// refused asserts that the verdict refuses the configuration, with place and
// remedy, and that what ran still runs.
func (h *host) refused(before, after *apiv1.Status, want string) *apiv1.ConfigDiagnostic {
	h.t.Helper()
	samePlugins(h.t, before, after)
	verdict := after.GetLastReload()
	if verdict.GetOk() || after.GetState() != "degraded" || len(after.GetReasons()) == 0 {
		h.t.Fatalf("not refused: %v, state %s", verdict, after.GetState())
	}
	for _, d := range verdict.GetDiagnostics() {
		text := d.GetSummary() + " " + d.GetDetail()
		if strings.Contains(text, want) {
			if !strings.HasPrefix(d.GetFile(), filepath.Dir(h.conf)) || d.GetDetail() == "" {
				h.t.Errorf("no file or no remedy: %v", d)
			}
			return d
		}
	}
	h.t.Fatalf("no diagnostic says %q: %v", want, verdict.GetDiagnostics())
	return nil
}

// where is how a terminal shows the place of a diagnostic.
func where(d *apiv1.ConfigDiagnostic) string {
	if d.GetLine() == 0 {
		return d.GetFile()
	}
	return fmt.Sprintf("%s:%d", d.GetFile(), d.GetLine())
}

// lineOf is the number of the first line of a text that contains part.
func lineOf(t *testing.T, text, part string) int32 {
	t.Helper()
	before, _, found := strings.Cut(text, part)
	if !found {
		t.Fatalf("there is no %q", part)
	}
	return int32(1 + strings.Count(before, "\n"))
}

// A plugin is added to a running host by editing the configuration.
func TestAddPluginWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.write("curt.txt", "what\n")
	s.configure()
	s.lock()
	h := s.up()
	before := h.status()
	s.configure("plugin \"detector\" \"hello\" {\n  command = \"" + s.install("detector-hello", hello(t, "1.0.0")) + "\"\n}\n")
	unlocked := h.reloaded(before)
	if d := h.refused(before, unlocked, "not in the lock file"); !strings.Contains(d.GetDetail(), "sop plugin lock") {
		t.Errorf("the remedy does not name the command: %v", d)
	}
	s.must(3, "plugin", "lock", "--check")
	s.lock()
	after := h.waitFor("the new plugin is in service", func(st *apiv1.Status) bool {
		return plugin(st, "detector.hello").GetState() == "ready" && st.GetState() == "ok"
	})
	if was, is := plugin(before, "detector.docs"), plugin(after, "detector.docs"); was.GetPid() != is.GetPid() {
		t.Errorf("the neighbour was disturbed: %v, then %v", was, is)
	}
	h.await("a scan that finds the gap", func(l line) bool { return l.Type == "scan" && l.Workspace.LastScan.Opened == 1 })
	find(t, s.gaps(), "hello.greeting", "curt.txt")

	// And taken out again.
	gone := watchProcess(t, int(plugin(after, "detector.hello").GetPid()))
	s.configure()
	h.waitFor("the plugin is gone", func(st *apiv1.Status) bool { return plugin(st, "detector.hello") == nil && st.GetState() == "ok" })
	if !gone.gone(patience) {
		t.Error("the process of a plugin that was taken out still runs")
	}
}

// Every way to break the configuration leaves what runs as it is, is shown with
// file, line and remedy, and is over once it is mended.
func TestBrokenConfig(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	command := s.install("hostile", hostile(t))
	good := s.config(hostilePlugin(command, "good", "config {\n    limit = 3\n  }"))
	s.put(s.conf, good)
	s.lock()
	h := s.up()

	edit := func(old, replacement string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("there is no %q", old)
		}
		return strings.Replace(good, old, replacement, 1)
	}
	for _, c := range []struct{ name, content, want, at string }{
		{"syntax error", edit("workspace \"main\" {", "workspace \"main\" {{"), "", "workspace"},
		{"unknown attribute", edit("log_level", "log_levels"), `"log_level"`, "log_levels"},
		{"unknown block", edit("workspace \"main\"", "workspaec \"main\""), `"workspace"`, "workspaec"},
		{"wrong type", edit(`interval = "0s"`, `interval = []`), "interval", "interval"},
		{"against the schema: wrong type", edit("limit = 3", `limit = ["x"]`), "limit", "limit = ["},
		{"against the schema: unknown", edit("limit = 3", "limmit = 3"), `"limit"`, "limmit"},
		{"refused by the plugin", edit("limit = 3", "limit = -1"), "the limit is negative", "limit = -1"},
		{"missing program", edit(command, command+"-missing"), "does not exist", "plugin \"detector\" \"hostile\""},
		{"missing workspace", edit(s.work, s.work+"-missing"), "no such file", s.work + "-missing"},
		{"another data_dir", edit(s.data, s.data+"-other"), "data", s.data + "-other"},
		{"half written", good[:len(good)*2/3], "", ""},
		{"empty", "", "says nothing", ""},
		{"no text", "host {\n  # \xff\xfe\n}\n", "UTF-8", "\xff"},
		{"too large", "# " + strings.Repeat("x", 5<<20) + "\n", "larger", ""},
	} {
		before := h.status()
		s.put(s.conf, c.content)
		// A file that is written in place may be looked at more than once: what
		// counts is the verdict on what it says in the end.
		after := h.waitFor(c.name+" refused", func(s *apiv1.Status) bool {
			return newer(s, before) && !s.GetLastReload().GetOk() && strings.Contains(fmt.Sprint(diagnosticTexts(s)), c.want)
		})
		d := h.refused(before, after, c.want)
		if c.at != "" && d.GetLine() != lineOf(t, c.content, c.at) {
			t.Errorf("%s: shown at line %d, want %d: %v", c.name, d.GetLine(), lineOf(t, c.content, c.at), d)
		}
		if c.at != "" && !strings.Contains(d.GetText(), "^") {
			t.Errorf("%s: no caret: %s", c.name, d.GetText())
		}
		if r := s.sop("status", "--socket", s.socket()); r.code != 3 || !strings.Contains(r.stdout, where(d)) {
			t.Errorf("%s: %v", c.name, r)
		}
		s.put(s.conf, good)
		samePlugins(t, before, h.waitFor(c.name+" mended", func(s *apiv1.Status) bool {
			return newer(s, after) && s.GetLastReload().GetOk() && s.GetState() == "ok"
		}))
	}
}

// What stands in place of the configuration may be no file at all.
func TestConfigThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	good := s.config()
	s.lock()
	h := s.up()
	for _, c := range []struct {
		name  string
		spoil func() error
	}{
		{"deleted", func() error { return nil }},
		{"an empty directory", func() error { return os.Mkdir(s.conf, 0o755) }},
		{"a dangling link", func() error { return os.Symlink("nowhere", s.conf) }},
		{"a link to itself", func() error { return os.Symlink(filepath.Base(s.conf), s.conf) }},
		{"a pipe", func() error { return syscall.Mkfifo(s.conf, 0o644) }},
		{"a device", func() error { return os.Symlink("/dev/zero", s.conf) }},
	} {
		before := h.status()
		if err := os.Remove(s.conf); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(); err != nil {
			t.Fatal(err)
		}
		after := h.waitFor(c.name+" is refused", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })
		h.refused(before, after, "")
		if err := os.Remove(s.conf); err != nil && c.name != "deleted" {
			t.Fatal(err)
		}
		s.put(s.conf, good)
		mended := h.waitFor(c.name+" is mended", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
		samePlugins(t, before, mended)
	}
}

// The command finds a host that runs, whatever has become of its configuration.
func TestStatusFindsTheHost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, data, from, to string }{
		{"broken, default directory", ".sop", "host {", "host {{"},
		{"deleted, default directory", ".sop", "", ""},
		{"broken, own directory", "data", "workspace \"main\"", "workspace {"},
		{"broken before data_dir, own directory", "data", "host {", "host {{"},
		{"deleted, own directory", "data", "", ""},
		{"data_dir edited", "data", "data\"", "other\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.write("README.md", readme)
			s.data = filepath.Join(s.dir, c.data)
			s.configure()
			s.lock()
			h := s.up()
			before := h.status()
			if c.from == "" {
				if err := os.Remove(s.conf); err != nil {
					t.Fatal(err)
				}
			} else {
				s.put(s.conf, strings.Replace(s.config(), c.from, c.to, 1))
			}
			h.reloaded(before)
			s.must(3, "status", "--config", s.conf)
		})
	}
}

// An ordinary user may lose the right to read the configuration.
func TestConfigWithoutPermission(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	s.asNobody()
	s.lock()
	h := s.up()
	before := h.status()
	if err := os.Chmod(s.conf, 0); err != nil {
		t.Fatal(err)
	}
	after := h.waitFor("the unreadable file is refused", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })
	h.refused(before, after, "ermission")
	if err := os.Chmod(s.conf, 0o600); err != nil {
		t.Fatal(err)
	}
	samePlugins(t, before, h.waitFor("it is readable again", func(st *apiv1.Status) bool { return st.GetState() == "ok" }))
}
