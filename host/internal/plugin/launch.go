package plugin

import (
	"fmt"
	"os"
	"runtime"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/sdk"
)

// Containment says how a plugin's descendants are bound to it.
type Containment = process.Containment

// See process.
const (
	PIDNamespace = process.PIDNamespace
	ProcessGroup = process.ProcessGroup
)

type launchRequest struct {
	bin   *binary
	group *cgroup.Group // to be started in; nil for none
	box   *boxed        // to be isolated by; nil for none
	argv  []string
	env   []string
	dir   string
	out   *os.File // the child's standard output; the caller closes it
	err   *os.File // the child's standard error; the caller closes it
}

// start runs a plugin's program, or the stage that becomes it.
func start(l *process.Launcher, req *launchRequest) (*os.Process, Containment, error) {
	defer runtime.KeepAlive(req.bin.file)
	r := process.Request{
		Path: req.bin.path, Argv: req.argv, Env: req.env, Dir: req.dir, Files: []*os.File{nil, req.out, req.err},
		Group: req.group, Namespace: true,
	}
	if !req.bin.script {
		r.Path = fmt.Sprintf("/proc/self/fd/%d", req.bin.file.Fd())
	}
	box := req.box
	if box == nil {
		return l.Start(r)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = null.Close() }() // opened for reading only
	r.Path, r.Argv, r.Env, r.Caps = box.launcher, launch.PluginArgs, launch.PluginEnv, box.caps
	r.Files = append(r.Files, launch.PluginFiles(null, box.plan, req.bin.file, box.words)...)
	return l.Start(r)
}

// endStrays kills every process that works in dir or beneath it and returns how
// many there were. Plugins and what they start begin in a private directory of
// the plugin host, with the handshake's variable: where no namespace ends
// detached descendants, this finds those that have kept both.
func endStrays(dir string) (int, error) {
	cookie := sdk.Handshake.MagicCookieKey + "=" + sdk.Handshake.MagicCookieValue
	return process.EndAll(func(s process.Seen) bool { return s.WorksIn(dir) && s.HasEnv(cookie) })
}
