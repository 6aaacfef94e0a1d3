package e2e_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// boxed is a profile, and the setting by which a plugin has it.
func boxed(level string) (profile, setting string) {
	return "sandbox_profile \"box\" {\n  level = \"" + level + "\"\n}\n", `sandbox_profile = "box"`
}

// needsLevel skips a test, and says why, where plugins cannot have a level.
func (s *site) needsLevel(level string) {
	s.t.Helper()
	r := s.sop("sandbox", "probe", "-o", "json")
	var probe struct {
		Levels []struct {
			Level   string
			Works   bool
			Refusal json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &probe); err != nil {
		s.t.Fatalf("%v\n%v", err, r)
	}
	for _, l := range probe.Levels {
		if l.Level == level && !l.Works {
			s.t.Skipf("no level %s here: %s", level, l.Refusal)
		}
	}
}

// lure puts what an escape would reach into the site.
func (h *host) lure() {
	h.t.Helper()
	outside := filepath.Join(h.dir, "outside")
	secret := filepath.Join(h.home(), ".ssh", "id")
	h.put(secret, "secret")
	if err := os.MkdirAll(outside, 0o755); err != nil {
		h.t.Fatal(err)
	}
	if h.as != nil {
		if err := os.Chown(outside, nobody, nobody); err != nil {
			h.t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = l.Close() })
	text, err := json.Marshal(map[string]any{
		"Outside": outside, "Secret": secret, "TCP": l.Addr().String(), "Unix": h.socket(),
		"Host": h.pid(), "Neighbour": h.plugin("detector.docs").GetPid(),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("hostile.targets", string(text))
	h.write("hostile.mode", "escape")
}

// reached is what the plugin could reach in a scan.
func (h *host) reached() []string {
	h.t.Helper()
	report := h.scan()
	for _, d := range report.GetDiagnostics() {
		if rest, ok := strings.CutPrefix(d.GetMessage(), "reached:"); ok && d.GetReason() == "ESCAPE" {
			return strings.Fields(rest)
		}
	}
	h.t.Fatalf("the plugin did not say what it reached: %v", report.GetDiagnostics())
	return nil
}

// Under a profile a plugin does its work, calls its host, and reaches nothing
// else; without one it reaches what its user does. A reload decides which.
func TestSandboxedPlugin(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"strict", "ns-noproc", "landlock"} {
		for _, user := range []string{"own", "nobody"} {
			t.Run(level+"/"+user, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.write("README.md", readme)
				s.write("a.bad", "bad\n")
				command := s.install("hostile", hostile(t))
				if user == "nobody" {
					s.asNobody()
				}
				s.needsLevel(level)
				profile, setting := boxed(level)
				s.configure(hostilePlugin(command, "good", setting), profile)
				s.lock()
				h := s.up()
				is := h.plugin("detector.hostile")
				if is.GetSandbox() != level || is.GetSandboxProfile() != "box" || is.GetLandlockAbi() == 0 {
					t.Fatalf("in force: %v", is)
				}
				if docs := h.plugin("detector.docs"); docs.GetSandbox() != "none" || docs.GetSandboxProfile() != "" {
					t.Errorf("without a profile: %v", docs)
				}
				find(t, h.gaps("--rule", "hostile.bad"), "hostile.bad", "a.bad")
				if got := h.callback("report"); got != "ok=1" {
					t.Errorf("calls back: %s", got)
				}
				h.lure()
				got := h.reached()
				if level == "landlock" { // landlock knows nothing of paths of sockets
					got = slices.DeleteFunc(got, func(what string) bool { return what == "unix" })
				}
				if len(got) > 0 {
					t.Errorf("reached %v", got)
				}

				before := h.status()
				s.configure(hostilePlugin(command, "good"))
				after := h.reloaded(before)
				if is := plugin(after, "detector.hostile"); is.GetSandbox() != "none" || is.GetGeneration() != 2 || !after.GetLastReload().GetOk() {
					t.Errorf("after the profile went: %v, %v", is, after.GetLastReload())
				}
				free := h.reached()
				want := []string{"write", "chmod", "read", "tcp", "unix", "user-namespace"}
				if user == "own" && os.Getuid() == 0 {
					want = append(want, "shadow", "mount")
				}
				for _, what := range want {
					if !slices.Contains(free, what) {
						t.Errorf("without a profile it reached %v only, no %s", free, what)
					}
				}
				h.write("hostile.mode", "good")
				before = h.status()
				s.configure(hostilePlugin(command, "good", setting), profile)
				if is := plugin(h.reloaded(before), "detector.hostile"); is.GetSandbox() != level || is.GetGeneration() != 3 {
					t.Errorf("after the profile came back: %v", is)
				}
				before = h.status()
				s.configure(hostilePlugin(command, "good", setting), strings.Replace(profile, "level", "read_only = [\"/usr/bin\"]\n  level", 1))
				after = h.reloaded(before)
				if is := plugin(after, "detector.hostile"); is.GetGeneration() != 4 || !strings.Contains(after.GetLastReload().String(), "sandbox changed") {
					t.Errorf("after the profile changed: %v, %v", is, after.GetLastReload())
				}
				h.stopInTime()
			})
		}
	}
}

// The bundled detectors find the same under the default profile as without one.
func TestBundledDetectorsInSandbox(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.needsLevel("strict")
	s.write("README.md", "# Sample\n\nSee [that](missing.md).\n")
	s.write("main.go", "package main\n\nimport \"os\"\n\n// TODO: do it\nfunc main() {\n\tos.Remove(\"x\")\n}\n")
	s.write("go.mod", "module example.org/sample\n\ngo 1.24\n")
	code := func(more string) string {
		return "plugin \"detector\" \"code\" {\n  command = \"${path.plugins}/detector-code\"\n  " + more + "\n}\n"
	}
	s.configure(code(""))
	s.lock()
	h := s.up()
	free := places(h.gaps())
	if !slices.ContainsFunc(free, func(place string) bool { return strings.HasPrefix(place, "docs.") }) ||
		!slices.ContainsFunc(free, func(place string) bool { return strings.HasPrefix(place, "code.") }) {
		t.Fatalf("there is too little to find: %v", free)
	}
	h.stopInTime()
	if err := os.RemoveAll(s.data); err != nil { // what was found is forgotten
		t.Fatal(err)
	}
	setting := `sandbox_profile = "default"`
	s.put(s.conf, strings.ReplaceAll(s.config(code(setting)), "/detector-docs\"\n", "/detector-docs\"\n  "+setting+"\n"))
	h = s.up()
	for _, id := range []string{"detector.docs", "detector.code"} {
		if is := h.plugin(id); is.GetSandbox() != "strict" || is.GetSandboxProfile() != "default" {
			t.Errorf("%s: %v", id, is)
		}
	}
	if got := places(h.gaps()); !slices.Equal(got, free) {
		t.Errorf("found %v, and without a sandbox %v", got, free)
	}
	if r := h.must(0, "plugin", "show", "detector.docs"); !strings.Contains(r.stdout, "strict, profile default, landlock") {
		t.Errorf("%v", r)
	}
	h.stopInTime()
}

// What cannot be had is refused with its step, and what ran before still runs.
func TestSandboxCannotBeHad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	command := s.install("hostile", hostile(t))
	s.configure(hostilePlugin(command, "good"))
	s.lock()
	h := s.up()
	before := h.status()
	s.configure(hostilePlugin(command, "good", `sandbox_profile = "box"`), "sandbox_profile \"box\" {\n  read_only = [\"/nowhere/at/all\"]\n}\n")
	after := h.reloaded(before)
	if texts := strings.Join(diagnosticTexts(after), "\n"); after.GetLastReload().GetOk() || !strings.Contains(texts, "cannot be put in force here") || !strings.Contains(texts, "/nowhere/at/all") {
		t.Errorf("the verdict is %v", after.GetLastReload())
	}
	if is := plugin(after, "detector.hostile"); is.GetState() != "ready" || is.GetSandbox() != "none" {
		t.Errorf("what ran was disturbed: %v", is)
	}
	h.stopInTime()
}
