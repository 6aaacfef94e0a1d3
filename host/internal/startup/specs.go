package startup

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/sop-host/sop/host/internal/component"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/policy"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// loaded is a configuration with everything that starting it takes.
type loaded struct {
	config *config.Config
	lock   *plugin.Lock
	specs  []*plugin.Spec // of the enabled plugins, sorted by id

	components []*component.Spec // the enabled ones, sorted by name

	policies *policy.Set
}

// load reads configuration and lock file, and checks each plugin's config block
// against the schema that the plugin described when it was locked. The result
// is nil if and only if the diagnostics have errors.
func load(configPath, pluginsDir string) (*loaded, config.Diagnostics) {
	cfg, diags := config.Load(configPath, config.Options{PluginsDir: pluginsDir})
	if cfg == nil {
		return nil, diags
	}
	lock, err := plugin.ReadLock(lockPath(cfg))
	if err != nil {
		return nil, append(diags, config.Diagnostic{
			Severity: config.SeverityError, Summary: "Lock file cannot be read", Detail: err.Error(),
			Range: config.Range{File: lockPath(cfg)},
		})
	}
	l := &loaded{config: cfg, lock: lock}
	var ds config.Diagnostics
	l.policies, ds = loadPolicies(cfg)
	diags = append(diags, ds...)
	for i := range cfg.Plugins {
		p := &cfg.Plugins[i]
		if !p.Enabled {
			continue
		}
		spec, ds := newSpec(cfg, lock, p)
		diags = append(diags, ds...)
		l.specs = append(l.specs, spec)
	}
	l.components, ds = newComponentSpecs(cfg)
	diags = append(diags, ds...)
	if diags.HasErrors() {
		return nil, diags
	}
	return l, diags
}

// lockPath is beside the configuration.
func lockPath(cfg *config.Config) string { return filepath.Join(cfg.Dir, config.LockFileName) }

// newSpec says how to run p. A plugin that is not locked gets a spec without
// checksum, which the pool refuses with the remedy.
func newSpec(cfg *config.Config, lock *plugin.Lock, p *config.Plugin) (*plugin.Spec, config.Diagnostics) {
	entry, locked := lock.Entry(p.ID())
	block := []byte("{}")
	if locked {
		var diags config.Diagnostics
		if block, diags = p.DecodeConfig(schemaOf(entry.Schema)); diags.HasErrors() {
			return nil, diags
		}
	}
	box, diags := pluginSandbox(cfg, p)
	if diags.HasErrors() {
		return nil, diags
	}
	return &plugin.Spec{
		Kind: p.Kind, Name: p.Name, Command: p.Command, Args: p.Args, Env: environmentOf(p.EnvPass, p.Env), Hash: entry.Hash,
		Config: block, StateDir: dataDir(cfg.Host.DataDir).pluginState(p.ID()),
		StartTimeout: p.StartTimeout, CallTimeout: p.CallTimeout, StopGrace: p.StopGrace, DrainTimeout: cfg.Host.DrainTimeout,
		Restart: plugin.RestartPolicy{
			BackoffMin: p.Restart.BackoffMin, BackoffMax: p.Restart.BackoffMax,
			BreakerFailures: p.Restart.BreakerFailures, BreakerWindow: p.Restart.BreakerWindow,
		},
		Limits: plugin.Limits(p.Limits), Sandbox: box,
	}, nil
}

// pluginSandbox says how p is isolated; nil for not at all.
func pluginSandbox(cfg *config.Config, p *config.Plugin) (*plugin.SandboxSpec, config.Diagnostics) {
	if p.SandboxProfile == "" {
		return nil, nil
	}
	plan, profile, err := isolationPlan(cfg, p.SandboxProfile)
	if err != nil {
		return nil, config.Diagnostics{{
			Severity: config.SeverityError, Summary: fmt.Sprintf("Plugin %s cannot run under sandbox_profile %q", p.ID(), profile),
			Detail: err.Error(), Range: p.Source,
		}}
	}
	if plan == nil {
		return nil, nil
	}
	return &plugin.SandboxSpec{Profile: profile, Plan: *plan}, nil
}

// schemaOf converts the schema that a plugin described. What is wrong with it
// is for config to find.
func schemaOf(s *pluginv1.ConfigSchema) *config.Schema {
	return schemaAt(s, 0)
}

// maxSchemaDepth is beyond what config accepts, so that its verdict stands.
const maxSchemaDepth = 32

func schemaAt(s *pluginv1.ConfigSchema, depth int) *config.Schema {
	out := &config.Schema{}
	for _, a := range s.GetAttributes() {
		out.Attributes = append(out.Attributes, config.Attribute{
			Name: a.GetName(), Type: a.GetType(), Required: a.GetRequired(), Description: a.GetDescription(),
			Default: json.RawMessage(a.GetDefaultJson()), Sensitive: a.GetSensitive(),
		})
	}
	for _, b := range s.GetBlocks() {
		block := config.Block{Name: b.GetName(), Nesting: nestings[b.GetNesting()], MinItems: int(b.GetMinItems()), MaxItems: int(b.GetMaxItems())}
		if depth < maxSchemaDepth {
			block.Schema = schemaAt(b.GetSchema(), depth+1)
		}
		out.Blocks = append(out.Blocks, block)
	}
	return out
}

var nestings = map[pluginv1.ConfigBlock_Nesting]config.Nesting{
	pluginv1.ConfigBlock_NESTING_SINGLE: config.NestingSingle,
	pluginv1.ConfigBlock_NESTING_LIST:   config.NestingList,
	pluginv1.ConfigBlock_NESTING_MAP:    config.NestingMap,
}

// refusal places what a plugin says about its configuration at the lines it is
// about.
func refusal(l *loaded, id string, refused *plugin.ConfigError) config.Diagnostics {
	p := l.config.Plugin(id)
	entry, _ := l.lock.Entry(id)
	var diags config.Diagnostics
	for _, d := range refused.Diagnostics {
		severity := config.SeverityError
		if d.GetLevel() == pluginv1.ConfigDiagnostic_LEVEL_WARNING {
			severity = config.SeverityWarning
		}
		var path []config.PathStep
		for _, s := range d.GetPath() {
			path = append(path, config.PathStep{Name: s.GetName() + s.GetKey(), Index: int(s.GetIndex())})
		}
		summary := fmt.Sprintf("Plugin %s refuses its configuration: %s", id, d.GetSummary())
		diags = append(diags, p.Diagnostic(schemaOf(entry.Schema), severity, summary, d.GetDetail(), path))
	}
	return diags
}

// Validate checks a configuration without starting anything.
func Validate(configPath, pluginsDir string) config.Diagnostics {
	_, diags := load(configPath, pluginsDir)
	return diags
}
