package startup

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/doctor"
	"github.com/sop-host/sop/host/internal/halt"
	"github.com/sop-host/sop/host/internal/plugin"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// Examination says what is examined. Nothing is changed by it, no lock is taken,
// and a host that runs is not disturbed.
type Examination struct {
	ConfigPath, PluginsDir string
	// DataDir counts where the configuration cannot be loaded.
	DataDir string
	Version string
	// Limit is how long reading the store, or the audit log, from end to end may
	// take; 0 means a minute.
	Limit time.Duration
	// Host asks a host that runs there how it stands; running says whether one
	// does.
	Host func(ctx context.Context) (status *apiv1.Status, running bool, err error)
}

const (
	lookLimit  = 10 * time.Second // of what is soon looked at
	readLimit  = time.Minute      // of what is read from end to end
	probeLimit = 30 * time.Second
)

// patient is the setup of one examination.
type patient struct {
	Examination
	dir    dataDir
	config *config.Config // nil: it cannot be loaded
	loaded *loaded        // nil: it cannot be put into effect
	diags  config.Diagnostics
}

// Doctor examines a host, whether it runs or not.
func Doctor(ctx context.Context, e Examination) *doctor.Report {
	if e.Limit <= 0 {
		e.Limit = readLimit
	}
	p := &patient{Examination: e, dir: dataDir(e.DataDir)}
	p.loaded, p.diags = load(e.ConfigPath, e.PluginsDir)
	if p.loaded != nil {
		p.config = p.loaded.config
		p.diags = append(p.diags, checkLoaded(p.config)...)
	} else {
		p.config, _ = config.Load(e.ConfigPath, config.Options{PluginsDir: e.PluginsDir})
	}
	if p.config != nil {
		p.dir = dataDir(p.config.Host.DataDir)
	}
	return doctor.Run(ctx, p.checks())
}

// checks are all that is examined, in the order in which it is told.
func (p *patient) checks() []doctor.Check {
	slow := func(what, command string) doctor.Finding {
		return doctor.Warn(fmt.Sprintf("`sop doctor --timeout 1h` waits longer%s", command), "%s could not be read to the end within %s", what, p.Limit)
	}
	return []doctor.Check{
		{Name: "config", Limit: lookLimit, Examine: p.examineConfig},
		{Name: "host", Limit: lookLimit, Examine: p.examineHost},
		{Name: "plugins", Limit: p.Limit, Examine: p.examinePlugins, Late: slow("the plugins' programs", "")},
		{Name: "permissions", Limit: lookLimit, Examine: p.examinePermissions},
		{Name: "disk", Limit: lookLimit, Examine: p.examineDisk, Late: doctor.Fail("look at the file system of "+string(p.dir)+" and what it is mounted from",
			"the file system of %s does not answer within %s", p.dir, lookLimit)},
		{Name: "clock", Limit: lookLimit, Examine: p.examineClock},
		{Name: "store", Limit: p.Limit, Examine: p.examineStore, Late: slow("the database", "")},
		{Name: "audit", Limit: p.Limit, Examine: p.examineAudit, Late: slow("the audit log", ", and so does `sop audit verify`")},
		{Name: "backups", Limit: lookLimit, Examine: p.examineBackups},
		{Name: "sandbox", Limit: probeLimit, Examine: p.examineSandbox},
	}
}

func (p *patient) examineConfig(context.Context) []doctor.Finding {
	var out []doctor.Finding
	for _, d := range p.diags {
		if d.Severity == config.SeverityError {
			out = append(out, doctor.Fail("correct it: `sop validate` shows the line; `sop init` writes a first configuration", "%s", d))
		} else {
			out = append(out, doctor.Warn("`sop validate` shows the line", "%s", d))
		}
	}
	if p.diags.HasErrors() || p.config == nil {
		return out
	}
	c := p.config
	return append([]doctor.Finding{doctor.Fine("%s is valid: %s, %s, %s", c.Path, numbered(len(c.Plugins), "plugin"),
		numbered(len(c.Workspaces), "workspace"), numbered(len(c.Components), "component"))}, out...)
}

// numbered writes 1 plugin, 2 plugins.
func numbered(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// examineHost asks the host that runs there, if one does.
func (p *patient) examineHost(ctx context.Context) []doctor.Finding {
	var out []doctor.Finding
	if stop := (halt.Mark{Dir: p.dir.emergency()}).Read(); stop != nil {
		out = append(out, doctor.Warn("`sop resume` lifts it", "an emergency stop by %s is in force since %s", stop.By, stop.At.Format(time.RFC3339)))
	}
	if p.Host == nil {
		return out
	}
	s, running, err := p.Host(ctx)
	switch {
	case !running:
		return append([]doctor.Finding{doctor.Fine("no host runs on %s", p.dir)}, out...)
	case err != nil:
		f := doctor.FromError(err, "")
		f.Message = "a host listens, but does not say how it stands: " + f.Message
		f.Remedy = "look at " + p.dir.log() + "; `sop emergency-stop` works without its help"
		return append([]doctor.Finding{f}, out...)
	}
	out = append([]doctor.Finding{doctor.Fine("version %s runs, pid %d, since %s", s.GetVersion(), s.GetPid(), s.GetStartedAt().AsTime().Format(time.RFC3339))}, out...)
	if s.GetVersion() != p.Version {
		out = append(out, doctor.Warn("start the host again to run what is installed", "the host is version %s, this program is %s", s.GetVersion(), p.Version))
	}
	state := doctor.Warning
	if s.GetState() == "failed" {
		state = doctor.Failed
	}
	for _, reason := range s.GetReasons() {
		out = append(out, doctor.Finding{State: state, Message: reason, Remedy: "`sop status` says more"})
	}
	return out
}

// examinePlugins compares the programs that are installed with the lock file.
func (p *patient) examinePlugins(ctx context.Context) []doctor.Finding {
	if p.config == nil {
		return []doctor.Finding{doctor.Warn("correct the configuration first", "which plugins there are is not known")}
	}
	lock, err := plugin.ReadLock(lockPath(p.config))
	if err != nil {
		return []doctor.Finding{doctor.FromError(err, "")}
	}
	var out []doctor.Finding
	good := 0
	for i := range p.config.Plugins {
		c := &p.config.Plugins[i]
		if !c.Enabled || ctx.Err() != nil {
			continue
		}
		if f := examineProgram(lock, c); f.State != doctor.OK {
			out = append(out, f)
			continue
		}
		good++
	}
	for _, id := range lock.IDs() {
		if p.config.Plugin(id) == nil {
			out = append(out, doctor.Warn("`sop plugin lock` takes it out", "plugin %s is locked and not configured", id))
		}
	}
	if good > 0 || len(out) == 0 {
		out = append([]doctor.Finding{doctor.Fine("%s as the lock file says", numbered(good, "program"))}, out...)
	}
	return out
}

func examineProgram(lock *plugin.Lock, c *config.Plugin) doctor.Finding {
	got, err := plugin.HashFile(c.Command)
	if err != nil {
		return doctor.FromError(err, "install the program, or correct `command` in the plugin's block")
	}
	entry, locked := lock.Entry(c.ID())
	switch {
	case !locked:
		return doctor.Fail(fmt.Sprintf("check that %s is the program you mean, then run `sop plugin lock`", c.Command), "plugin %s is not in the lock file", c.ID())
	case got != entry.Hash:
		return doctor.Fail("if you replaced the program yourself, run `sop plugin lock` and `sop reload`; if not, find out who did",
			"plugin %s: %s is %s, the lock file says %s", c.ID(), c.Command, got, entry.Hash)
	}
	return doctor.Fine("plugin %s is as it was locked", c.ID())
}

// examineSandbox tries every level of isolation out.
func (p *patient) examineSandbox(ctx context.Context) []doctor.Finding {
	path := p.ConfigPath
	if p.config == nil {
		path = "" // the default profile alone
	}
	probe, err := probeSandbox(ctx, path, p.PluginsDir)
	if err != nil {
		return []doctor.Finding{doctor.FromError(err, "`sop sandbox probe` says more")}
	}
	var works []string
	for _, l := range probe.Levels {
		if l.Works {
			works = append(works, string(l.Level))
		}
	}
	out := []doctor.Finding{doctor.Fine("the kernel allows %s", strings.Join(works, ", "))}
	needed := p.config != nil && needsSandbox(p.config)
	for _, profile := range probe.Profiles {
		if profile.Gets != "" {
			continue
		}
		f := doctor.Warn("docs/sandbox.md says what each level needs; a weaker `level` in the profile is yours to choose",
			"profile %s gets nothing: level %s is refused at %s", profile.Name, profile.Wants, profile.Why)
		if needed {
			f.State = doctor.Failed
		}
		out = append(out, f)
	}
	return out
}

// nearest is the first directory from dir upwards that is there.
func nearest(dir string, exists func(string) bool) string {
	for !exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}
