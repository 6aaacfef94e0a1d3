package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// plan is what `sop plan -o json` prints.
type plan struct {
	Host    string `json:"host"`
	Changes []struct {
		Subject string   `json:"subject"`
		Action  string   `json:"action"`
		Reasons []string `json:"reasons"`
	} `json:"changes"`
	Diagnostics []map[string]any `json:"diagnostics"`
}

func (p plan) action(subject string) string {
	for _, c := range p.Changes {
		if c.Subject == subject {
			return c.Action
		}
	}
	return ""
}

// slow keeps the host from taking a change over by itself.
func slow(config string) string {
	return strings.Replace(config, `reload_debounce = "20ms"`, `reload_debounce = "1m"`, 1)
}

// Plan says beforehand what a reload does, and does nothing; `sop reload` and
// SIGHUP then do it.
func TestPlanAndReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	command := s.install("hostile", hostile(t))
	s.put(s.conf, slow(s.config(codePlugin, hostilePlugin(command, "good"))))
	if p := decode[plan](t, s.must(3, "plan", "-o", "json")); p.Host != "stopped" || p.action("plugin detector.docs") != "start" {
		t.Errorf("without a host: %+v", p)
	}
	s.lock()
	h := s.up()
	before := h.status()
	if p := decode[plan](t, s.must(0, "plan", "-o", "json")); p.Host != "running" || p.action("plugin detector.docs") != "unchanged" {
		t.Errorf("nothing changed: %+v", p)
	}

	changed := slow(s.config(hostilePlugin(command, "good", "config {\n    label = \"new\"\n  }"), strings.ReplaceAll(codePlugin, `"code"`, `"more"`)))
	s.put(s.conf, changed)
	for _, command := range [][]string{{"reload", "--check"}, {"plan"}} { // they say what a reload would
		if r := s.sop(command...); r.code != 1 || !strings.Contains(r.stdout+r.stderr, "detector.more is not in the lock file") {
			t.Errorf("a program that is not locked: %v", r)
		}
	}
	s.lock()
	snapshot := tree(t, s.dir)
	p := decode[plan](t, s.must(3, "plan", "-o", "json"))
	for subject, want := range map[string]string{
		"plugin detector.docs": "unchanged", "plugin detector.code": "stop", "plugin detector.more": "start",
		"plugin detector.hostile": "restart", "workspace main": "unchanged",
	} {
		if got := p.action(subject); got != want {
			t.Errorf("plan: %s: %q, want %q", subject, got, want)
		}
	}
	if strings.Contains(s.sop("plan", "-o", "json").stdout, `"new"`) {
		t.Error("the plan tells values")
	}
	if after := tree(t, s.dir); after != snapshot {
		t.Errorf("plan wrote something: %s\nbefore: %s", after, snapshot)
	}
	samePlugins(t, before, h.status())

	s.must(0, "reload")
	after := h.status()
	if v := after.GetLastReload(); !v.GetOk() || v.GetTrigger() != "request" {
		t.Errorf("reload: %v", v)
	}
	if plugin(after, "detector.code") != nil || plugin(after, "detector.more").GetState() != "ready" {
		t.Errorf("plugins after the reload: %v", after.GetPlugins())
	}
	if was, is := plugin(before, "detector.hostile"), plugin(after, "detector.hostile"); is.GetPid() == was.GetPid() || is.GetRestarts() != 0 || is.GetGeneration() <= was.GetGeneration() {
		t.Errorf("reconfigured plugin: %v, then %v", was, is)
	}
	if was, is := plugin(before, "detector.docs"), plugin(after, "detector.docs"); is.GetPid() != was.GetPid() {
		t.Errorf("unchanged plugin: %v, then %v", was, is)
	}

	s.put(s.conf, strings.Replace(changed, "workspace", "workspaec", 1))
	if r := s.must(1, "reload"); !strings.Contains(r.stderr, `config.hcl:7`) || !strings.Contains(r.stderr, `"workspace"`) {
		t.Errorf("refused reload: %v", r)
	}
	s.must(1, "plan")
	s.put(s.conf, slow(s.config()))
	at := h.status()
	h.signal(syscall.SIGHUP)
	hup := h.reloaded(at)
	if v := hup.GetLastReload(); !v.GetOk() || v.GetTrigger() != "SIGHUP" || len(hup.GetPlugins()) != 1 {
		t.Errorf("SIGHUP: %v", hup)
	}
}

// tree says which files there are, and how large, without what a host writes by
// itself.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == "logs" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(path + " " + info.ModTime().String() + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Editors save by renaming a finished file over the old one.
func TestSaveByRenaming(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure(codePlugin)
	s.lock()
	h := s.up()
	for _, c := range []struct {
		name    string
		content string
		plugins int
	}{
		{"one less", s.config(), 1}, {"back", s.config(codePlugin), 2}, {"and again", s.config(), 1},
	} {
		backup, fresh := s.conf+"~", filepath.Join(s.dir, ".config.hcl.swp")
		s.put(fresh, c.content)
		if err := os.Rename(s.conf, backup); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(fresh, s.conf); err != nil {
			t.Fatal(err)
		}
		h.waitFor(c.name, func(st *apiv1.Status) bool { return len(st.GetPlugins()) == c.plugins && st.GetState() == "ok" })
	}
}

// A directory whose files are links through ..data, which is swapped: how a
// ConfigMap is mounted.
func TestConfigMap(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.conf = filepath.Join(s.dir, "conf")
	publish := func(version, content string) {
		s.put(filepath.Join(s.conf, "..version_"+version, "sop.hcl"), content)
		fresh := filepath.Join(s.conf, "..data_tmp")
		if err := os.Symlink("..version_"+version, fresh); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(fresh, filepath.Join(s.conf, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("1", s.config(codePlugin))
	if err := os.Symlink("..data/sop.hcl", filepath.Join(s.conf, "sop.hcl")); err != nil {
		t.Fatal(err)
	}
	s.lock()
	h := s.up()
	before := h.status()

	publish("2", s.config())
	after := h.waitFor("the new version is taken over", func(st *apiv1.Status) bool { return len(st.GetPlugins()) == 1 && st.GetState() == "ok" })
	if plugin(after, "detector.docs").GetPid() != plugin(before, "detector.docs").GetPid() {
		t.Error("the unchanged plugin was restarted")
	}
	publish("3", strings.Replace(s.config(), "host {", "host {{", 1))
	h.refused(after, h.waitFor("the bad version is refused", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() }), "")
	publish("4", s.config(codePlugin))
	h.waitFor("the good version is taken over", func(st *apiv1.Status) bool { return len(st.GetPlugins()) == 2 && st.GetState() == "ok" })
	s.put(filepath.Join(s.conf, "more.hcl"), "locals {\n  more = 1\n}\n") // files of a directory count together
	s.must(0, "validate", "--config", s.conf)
}

// A reload that is asked for while the host starts waits for the start, and takes all
// of the configuration over; a service manager is not told that the host is ready
// before it is.
func TestReloadWhileItStarts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	gate := filepath.Join(s.dir, "gate")
	slow := shellComponent("slow", "while ! test -e "+gate+"; do sleep 0.02; done; echo open; exec sleep 300", `readiness { log = "open" }`)
	s.configure(slow)
	s.lock()
	socket := filepath.Join(s.dir, "notify.sock")
	m := newManager(t, socket)
	s.env = []string{"NOTIFY_SOCKET=" + socket}
	h := s.start()
	h.await("the API", func(l line) bool { return l.Component == "api" && l.Phase == "ready" })
	if r := s.sop("workspace", "scan", "main", "-o", "json"); r.code != 5 || !strings.Contains(r.stderr, "HOST_STARTING") {
		t.Errorf("a workspace of a host that starts: %v", r)
	}
	s.configure(slow, shellComponent("second", "exec sleep 300"), "tokens {\n  todo {\n    max_uses = 7\n  }\n}\n")
	reloaded := make(chan result, 1)
	go func() { reloaded <- s.sop("reload", "--config", s.conf) }()
	if !eventually(patience, func() bool {
		return strings.Contains(s.read(filepath.Join(s.data, "logs", "host.log")), "permission=host.reload")
	}) {
		t.Fatal("the host was not asked to reload")
	}
	s.put(gate, "")
	if got := m.await("READY=1"); !strings.Contains(got, "STATUS=in service") {
		t.Errorf("%q", got)
	}
	if r := <-reloaded; r.code != 0 {
		t.Errorf("%v", r)
	}
	h.waitFor("the second component", stateOf("second", "ready"))
	if r := s.must(0, "token", "issue", "--type", "todo", "--operation", "op", "-o", "json"); !strings.Contains(r.stdout, `"max_uses": 7`) {
		t.Errorf("the limits of tokens were not taken over: %v", r)
	}
	h.stop()
}
