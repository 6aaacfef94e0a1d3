package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestMatch(t *testing.T) {
	const (
		v1cpu = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
		v1mem = "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	)
	tests := map[string]struct {
		memberships, mounts string
		want                map[string]string // own, by first controller
		missing             string            // part of the reason for memory or v2
	}{
		"unified": {
			"0::/system.slice/sop.service\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
			map[string]string{"": "/sys/fs/cgroup/system.slice/sop.service"},
			"a v1 hierarchy with the memory controller is not mounted",
		},
		"hybrid": {
			"5:cpu,cpuacct:/a\n4:memory:/b\n1:name=systemd:/c\n0::/c\n", v1cpu + v1mem + "33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			map[string]string{"": "/sys/fs/cgroup/unified/c", "cpu": "/sys/fs/cgroup/cpu,cpuacct/a", "memory": "/sys/fs/cgroup/memory/b"},
			"",
		},
		"container with a sub-mounted root": {
			"4:memory:/docker/abc/x\n", "32 30 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			map[string]string{"memory": "/sys/fs/cgroup/memory/x"},
			"",
		},
		"sub-mounted root that is not ours": {
			"4:memory:/docker/abcd\n", "32 30 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			map[string]string{},
			`"/docker/abcd" cannot be seen at /sys/fs/cgroup/memory`,
		},
		"cgroup namespace": {
			"0::/\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			map[string]string{"": "/sys/fs/cgroup"},
			"",
		},
		"outside of the namespace": {
			"4:memory:/../other\n", v1mem, map[string]string{}, "cannot be seen",
		},
		"second mount is the visible one": {
			"4:memory:/b\n", "9 8 0:28 /x /mnt/x rw - cgroup cgroup rw,memory\n" + v1mem,
			map[string]string{"memory": "/sys/fs/cgroup/memory/b"},
			"",
		},
		"odd names": {
			"4:memory:/a:b c\n", `32 30 0:28 / /mnt/cg\040roup rw - cgroup none rw,memory` + "\n",
			map[string]string{"memory": "/mnt/cg roup/a:b c"},
			"",
		},
		"nothing": {"", "garbage\n - \n1 2 3 - cgroup\n", map[string]string{}, "cgroup v2 is not mounted"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			found, reasons := match(parseMemberships(test.memberships), parseMounts(test.mounts))
			got := make(map[string]string)
			for _, h := range found {
				got[h.controllers[0]] = h.own
				for _, c := range h.controllers {
					if reasons[c] != nil {
						t.Errorf("%q is found and %v", c, reasons[c])
					}
				}
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if why := fmt.Sprint(reasons["memory"], reasons[""]); !strings.Contains(why, test.missing) {
				t.Errorf("reasons %s", why)
			}
		})
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("0::/a\n1:cpu,cpuacct:/b\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n31 30 0:27 /b /cpu rw - cgroup cgroup rw,cpu\n")
	f.Fuzz(func(t *testing.T, memberships, mounts string) {
		found, _ := match(parseMemberships(memberships), parseMounts(mounts))
		for _, h := range found {
			if rel, err := filepath.Rel(h.mount, h.own); err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
				t.Errorf("%q is outside of %q", h.own, h.mount)
			}
		}
	})
}

// fakeV2 is a unified hierarchy of plain files: what the kernel makes in a new
// cgroup is made by mkdir.
type fakeV2 struct {
	t     *testing.T
	proc  string
	mount string
	sys   system
}

const allControllers = "cpuset cpu io memory pids"

// newFakeV2 has this process in the cgroup own ("/" or beneath).
func newFakeV2(t *testing.T, own string, delegatedDirs ...string) *fakeV2 {
	t.Helper()
	root := t.TempDir()
	f := &fakeV2{t: t, proc: filepath.Join(root, "proc"), mount: filepath.Join(root, "cg")}
	f.put(filepath.Join(f.proc, "self", "cgroup"), "0::"+own+"\n")
	f.put(filepath.Join(f.proc, "self", "mountinfo"), "30 23 0:26 / "+f.mount+" rw - cgroup2 cgroup2 rw\n")
	f.put(filepath.Join(f.mount, "cgroup.controllers"), allControllers+"\n")
	f.put(filepath.Join(f.mount, "cgroup.subtree_control"), "")
	dir := f.mount
	for part := range strings.SplitSeq(strings.Trim(own, "/"), "/") {
		if part != "" {
			dir = filepath.Join(dir, part)
			if err := f.mkdir(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.sys = system{
		proc: f.proc, mkdir: f.mkdir, rmdir: os.RemoveAll, try: func(*Group) error { return nil },
		delegated: func(dir string) bool {
			for _, d := range delegatedDirs {
				if dir == filepath.Join(f.mount, d) {
					return true
				}
			}
			return false
		},
	}
	return f
}

func (f *fakeV2) put(path, content string) {
	f.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeV2) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for file, content := range map[string]string{
		"cgroup.type": "domain\n", "cgroup.controllers": allControllers + "\n", "cgroup.subtree_control": "", "cgroup.procs": "",
		"memory.max": "max\n", "memory.swap.max": "max\n", "memory.oom.group": "0\n", "memory.current": "4096\n",
		"memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 1\n",
		"pids.max":      "max\n", "pids.current": "7\n", "pids.peak": "9\n", "pids.events": "max 5\n",
		"cpu.max": "max 100000\n", "cpu.stat": "usage_usec 1500\nuser_usec 1000\n",
	} {
		f.put(filepath.Join(dir, file), content)
	}
	return nil
}

func (f *fakeV2) read(path string) string {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.mount, path))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(data)
}

func (f *fakeV2) open() *Tree {
	f.t.Helper()
	tree, err := open(f.sys, Options{Owner: "me", Record: filepath.Join(f.proc, "record")})
	if err != nil {
		f.t.Fatal(err)
	}
	return tree
}

// Where this process may have controllers handed out, groups are limited by
// them and measured.
func TestV2WithControllers(t *testing.T) {
	for name, test := range map[string]struct {
		own       string
		delegated []string
		base      string
	}{
		"in the root":                    {"/", nil, ""},
		"in a subgroup of a delegate":    {"/system.slice/sop.service/host", []string{"system.slice/sop.service"}, "system.slice/sop.service"},
		"directly beneath a namespace's": {"/host", []string{""}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeV2(t, test.own, test.delegated...)
			tree := f.open()
			if tree.Version() != V2 || tree.Refused() != nil || len(tree.missing) != 0 {
				t.Fatalf("version %q, %v, %v", tree.Version(), tree.Refused(), tree.missing)
			}
			g, err := tree.New("detector.docs-1", Limits{Memory: 1 << 30, PIDs: 512, CPUs: 1.5})
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(test.base, tree.name, g.Name())
			for file, want := range map[string]string{
				"memory.max": "1073741824", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "512", "cpu.max": "150000 100000",
			} {
				if got := strings.TrimSpace(f.read(filepath.Join(dir, file))); !strings.HasPrefix(got, want) {
					t.Errorf("%s is %q, want %q", file, got, want)
				}
			}
			for _, d := range []string{test.base, filepath.Join(test.base, tree.name)} {
				if got := f.read(filepath.Join(d, "cgroup.subtree_control")); !strings.HasPrefix(got, "+") {
					t.Errorf("controllers of %q: %q", d, got)
				}
			}
			u, err := g.Usage()
			if want := (Usage{Memory: 4096, OOMKills: 2, PIDs: 7, PIDsPeak: 9, PIDsRefused: 5, CPU: 1500000}); err != nil || u != want || g.OOMKills() != 2 {
				t.Errorf("usage %+v, %v", u, err)
			}
			if err := errors.Join(g.Remove(), tree.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A cgroup that holds processes has no controllers to give: groups can be had,
// limits cannot, and the reason says what to do.
func TestV2WithoutControllers(t *testing.T) {
	f := newFakeV2(t, "/user.slice/session-3.scope")
	tree := f.open()
	if tree.Version() != V2 {
		t.Fatalf("version %q, %v", tree.Version(), tree.Refused())
	}
	g, err := tree.New("x", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(f.mount, "user.slice/session-3.scope", tree.name, g.Name()); g.dirs[0].path != want {
		t.Errorf("the group is %s, want %s", g.dirs[0].path, want)
	}
	for _, l := range []Limits{{Memory: 1 << 30}, {PIDs: 100}, {CPUs: 1}} {
		_, err := tree.New("y", l)
		var limit *LimitError
		if !errors.As(err, &limit) || !l.Has(limit.Resource) || !strings.Contains(err.Error(), "DelegateSubgroup") {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if got := f.read("user.slice/session-3.scope/cgroup.subtree_control"); got != "" {
		t.Errorf("controllers were enabled beside processes: %q", got)
	}
}

// A controller that is not offered is missing, and the others are had.
func TestV2WithSomeControllers(t *testing.T) {
	f := newFakeV2(t, "/")
	f.put(filepath.Join(f.mount, "cgroup.controllers"), "pids memory\n")
	tree := f.open()
	if tree.Missing(Memory) != nil || tree.Missing(PIDs) != nil || tree.Missing(CPU) == nil {
		t.Errorf("missing %v", tree.missing)
	}
	if _, err := tree.New("x", Limits{PIDs: 99}); err != nil {
		t.Error(err)
	}
}

// Who may not write is told which file refused, and why.
func TestRefusedNamesTheFile(t *testing.T) {
	f := newFakeV2(t, "/user.slice")
	mkdir := f.sys.mkdir
	f.sys.mkdir = func(dir string) error {
		if strings.HasPrefix(filepath.Base(dir), "sop-") {
			return &os.PathError{Op: "mkdir", Path: dir, Err: syscall.EACCES}
		}
		return mkdir(dir)
	}
	tree := f.open()
	if tree.Version() != None || !errors.Is(tree.Refused(), syscall.EACCES) || !strings.Contains(tree.Refused().Error(), f.mount+"/user.slice/sop-") {
		t.Errorf("%q, %v", tree.Version(), tree.Refused())
	}
	if _, err := tree.New("x", Limits{}); !errors.Is(err, syscall.EACCES) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(f.proc, "record")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a record of nothing: %v", err)
	}
}

// A kernel that does not start processes in cgroups (clone3 is filtered in some
// containers) is as good as none.
func TestKernelThatStartsNothingInCgroups(t *testing.T) {
	f := newFakeV2(t, "/")
	f.sys.try = func(*Group) error { return syscall.ENOSYS }
	tree := f.open()
	if !errors.Is(tree.Refused(), syscall.ENOSYS) {
		t.Errorf("refused %v", tree.Refused())
	}
	if left, err := filepath.Glob(f.mount + "/sop-*"); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestNamesAreSafe(t *testing.T) {
	for in, want := range map[string]string{
		"detector.docs-1": "g-detector.docs-1", "../../x\n": "g-.._.._x_", "memory.max": "g-memory.max", "ü": "g-_", strings.Repeat("x", 300): "g-" + strings.Repeat("x", 120),
	} {
		if got := fileName(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}
