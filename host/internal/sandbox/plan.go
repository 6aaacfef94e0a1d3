package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// systemDirs are the host's programs and libraries.
var systemDirs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// etcFiles are what programs need of /etc. None holds a secret.
var etcFiles = []string{
	"/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
	"/etc/services", "/etc/mime.types", "/etc/python3", "/etc/java-17-openjdk", "/etc/java-21-openjdk",
}

var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/local/go/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// newPlan writes down everything about a run before any of it begins.
func newPlan(spec *Spec, workspace string, own Places, counted bool) (*launch.Plan, error) {
	p := &launch.Plan{
		Level: string(spec.Profile.Level), Argv: spec.Argv, Dir: own.Workspace, Path: searchPath,
		Writable:      []string{own.Workspace, own.Home, own.Temp},
		Workspace:     launch.Tree{Path: workspace},
		MemoryCounted: counted, Limits: launchLimits(spec.Profile.Limits),
	}
	var err error
	if p.Env, err = environment(spec.Env, own); err != nil {
		return nil, err
	}
	identify(p)
	if own == builtPlaces {
		p.Writable = append(p.Writable, "/dev/shm")
		p.Files = append(p.Files, accounts(p.UID, p.GID)...)
	} else if !p.Root {
		p.Limits.Pids = 0 // it would count every process of this user
	}
	if err := addSystem(p); err != nil {
		return nil, err
	}
	if err := addReadOnly(p, spec.Profile.ReadOnly); err != nil {
		return nil, err
	}
	if err := addCaches(p, spec.Profile.Caches); err != nil {
		return nil, err
	}
	if err := addInputs(p, spec, own); err != nil {
		return nil, err
	}
	addService(p, spec.Service, own)
	return p, nil
}

func launchLimits(l Limits) launch.Limits {
	return launch.Limits{
		CPUSeconds: uint64(l.CPU.Seconds()), MemoryBytes: uint64(l.MemoryBytes), Pids: uint64(l.Pids),
		OpenFiles: uint64(l.OpenFiles), DiskBytes: uint64(l.DiskBytes), Inodes: uint64(l.Inodes),
	}
}

// environment is the whole environment of the command: nothing of the host's
// is inherited.
func environment(settings []string, own Places) ([]string, error) {
	env := []string{
		"PATH=" + strings.Join(searchPath, ":"), "HOME=" + own.Home, "TMPDIR=" + own.Temp,
		"LANG=C.UTF-8", "TZ=UTC",
	}
	for _, setting := range settings {
		name, _, _ := strings.Cut(setting, "=")
		if !strings.HasPrefix(name, "SOP_") || strings.ContainsRune(setting, 0) {
			return nil, fmt.Errorf("the variable %q is not for a sandbox: only names that begin with SOP_ are", name)
		}
		env = append(env, setting)
	}
	return env, nil
}

// identify decides who the command is. Root's sandboxes see all ordinary ids
// and have one of their own; those of others have the user's id and see no
// other.
func identify(p *launch.Plan) {
	if p.Root = isRoot(); p.Root {
		p.UID, p.GID, p.IDMapped = launch.RootID, launch.RootID, true
		p.UIDMap, p.GIDMap = launch.RootIDMap(), launch.RootIDMap()
		return
	}
	p.UID, p.GID = insideID(os.Geteuid()), insideID(os.Getegid())
	p.UIDMap = []launch.IDRange{{Inside: p.UID, Outside: os.Geteuid(), Count: 1}}
	p.GIDMap = []launch.IDRange{{Inside: p.GID, Outside: os.Getegid(), Count: 1}}
}

// insideID is the id itself, unless that would be root's.
func insideID(id int) int {
	if id == 0 {
		return launch.RootID
	}
	return id
}

// isRoot says whether this process is root, and not only of a user namespace,
// where most other ids do not exist.
func isRoot() bool {
	if os.Geteuid() != 0 {
		return false
	}
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"})
}

func addSystem(p *launch.Plan) error {
	for _, dir := range systemDirs {
		info, err := os.Lstat(dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return err
		case info.Mode()&os.ModeSymlink != 0:
			to, err := os.Readlink(dir)
			if err != nil {
				return err
			}
			p.Files = append(p.Files, launch.File{Target: dir, Content: to, Link: true})
		default:
			p.Mounts = append(p.Mounts, launch.Mount{Tree: launch.Tree{Path: dir}, Target: dir})
		}
	}
	for _, name := range etcFiles {
		p.Mounts = append(p.Mounts, launch.Mount{Tree: launch.Tree{Path: name}, Target: name, Optional: true})
	}
	for _, name := range devices {
		p.Mounts = append(p.Mounts, launch.Mount{Tree: launch.Tree{Path: name}, Target: name, Device: true})
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		p.Files = append(p.Files, launch.File{Target: "/dev/" + name, Content: to, Link: true})
	}
	return nil
}

// closedTrees are never put into a sandbox, whatever a profile says.
var closedTrees = []string{"/", "/proc", "/sys", "/dev", "/run", "/etc", "/boot", "/root", launch.WorkspaceDir, launch.TempDir, launch.HomeDir, launch.CacheDir, launch.InputDir}

func addReadOnly(p *launch.Plan, trees []string) error {
	for _, tree := range trees {
		if err := showable(tree); err != nil {
			return err
		}
		p.Mounts = append(p.Mounts, launch.Mount{Tree: launch.Tree{Path: tree}, Target: tree})
	}
	return nil
}

// showable says why a path cannot be put into a sandbox, or nil.
func showable(path string) error {
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		return fmt.Errorf("%s cannot be shown to a sandbox: write it absolute, without . and .. in it", path)
	case slices.Contains(closedTrees, path):
		return fmt.Errorf("%s cannot be shown to a sandbox: show the directories beneath it that are needed", path)
	case launchOwn(path):
		return fmt.Errorf("%s cannot be shown to a sandbox, which has something of its own there: keep it elsewhere, such as beneath /opt", path)
	}
	return nil
}

// launchOwn says whether a path lies where the sandbox has something of its own.
func launchOwn(path string) bool {
	for _, own := range []string{"/proc/", "/sys/", "/dev/", launch.WorkspaceDir + "/", launch.TempDir + "/", launch.HomeDir + "/", launch.CacheDir + "/", launch.InputDir + "/"} {
		if strings.HasPrefix(path, own) {
			return true
		}
	}
	return false
}

// accounts are the files by which programs find out who they are.
func accounts(uid, gid int) []launch.File {
	return []launch.File{
		{Target: "/etc/passwd", Content: fmt.Sprintf("root:x:0:0:root:/nonexistent:/bin/false\nsop:x:%d:%d:sandbox:%s:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n", uid, gid, launch.HomeDir)},
		{Target: "/etc/group", Content: fmt.Sprintf("root:x:0:\nsop:x:%d:\nnogroup:x:65534:\n", gid)},
		{Target: "/etc/hosts", Content: "127.0.0.1 localhost\n::1 localhost\n"},
		{Target: "/etc/nsswitch.conf", Content: "passwd: files\ngroup: files\nhosts: files dns\n"},
	}
}
