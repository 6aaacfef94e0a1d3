package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Options are what Load needs to know beside the files.
type Options struct {
	// PluginsDir is what path.plugins stands for. A relative one starts at
	// the working directory; without one, path.plugins is unknown.
	PluginsDir string

	// Environ answers the env function. Nil means os.LookupEnv.
	Environ func(name string) (value string, set bool)
}

// Load reads the configuration at path, which is one file or a directory whose
// *.hcl files are merged in the order of their names. The Config is nil if and
// only if the diagnostics have errors; warnings may come with either.
//
// Load reads files and the environment and does nothing else. It neither
// panics nor blocks whatever it is pointed at, and reads at most 4 MiB a file.
func Load(path string, opt Options) (*Config, Diagnostics) {
	l := loader{sources: make(map[string][]byte)}
	config, err := l.load(path, opt)
	if err != nil {
		return nil, failure(path, "Cannot load the configuration", err)
	}
	diags := finish(l.diags, l.sources)
	if diags.HasErrors() {
		return nil, diags
	}
	config.sources = l.sources
	return config, diags
}

// A loader is one call of Load.
type loader struct {
	reporter
	dir        string
	sources    map[string][]byte
	fragments  []fragment
	incomplete bool // something could not be read or parsed
}

var topLevelBlocks = []string{"agent", "api", "audit", "backup", "component", "hook", "host", "locals", "maintenance", "oidc", "plugin", "policy", "protocol", "rule", "sandbox_profile", "tasks", "telemetry", "tokens", "workspace"}

func (l *loader) load(path string, opt Options) (*Config, error) {
	if path == "" {
		return nil, fmt.Errorf("no path was given")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the working directory: %w", err)
	}
	files, isDir, err := configFiles(path)
	switch {
	case err != nil:
		return nil, err
	case len(files) == 0:
		return nil, fmt.Errorf("the directory holds no *.hcl files")
	case len(files) > maxFileCount:
		return nil, fmt.Errorf("the directory holds more than %d *.hcl files", maxFileCount)
	}
	config := &Config{Path: absolute, Dir: absolute}
	if !isDir {
		config.Dir = filepath.Dir(absolute)
	}
	l.dir = config.Dir
	for _, file := range files {
		l.readFile(file)
		config.Files = append(config.Files, filepath.Join(config.Dir, filepath.Base(file)))
	}
	s, err := l.newScope(opt)
	if err != nil {
		return nil, err
	}
	l.readBlocks(config, s)
	return config, nil
}

// readFile reads and parses one file. One that cannot be read hides nothing
// about the others.
func (l *loader) readFile(file string) {
	src, err := readRegular(file, maxFileSize)
	if err != nil {
		l.incomplete = true
		l.errorf(wholeFile(file), "Cannot read the configuration file", "%s", capital(err.Error()))
		return
	}
	l.sources[file] = src
	fragments, diags := parse(file, src)
	l.report(diags...)
	l.incomplete = l.incomplete || diags.HasErrors()
	l.fragments = append(l.fragments, fragments...)
}

func (l *loader) newScope(opt Options) (*scope, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the working directory: %w", err)
	}
	environ := opt.Environ
	if environ == nil {
		environ = os.LookupEnv
	}
	s := &scope{
		functions: functions(l.dir, environ),
		path: map[string]cty.Value{
			"config": cty.StringVal(l.dir),
			"cwd":    cty.StringVal(cwd),
			"data":   cty.StringVal(absolutePath(l.dir, defaultDataDir)),
		},
		locals:     make(map[string]cty.Value),
		incomplete: l.incomplete,
	}
	s.functionNames = sortedKeys(s.functions)
	if opt.PluginsDir != "" {
		s.path["plugins"] = cty.StringVal(absolutePath(cwd, opt.PluginsDir))
	}
	return s, nil
}

// readBlocks sorts the top-level blocks by type and reads them, the
// definitions that others refer to first.
func (l *loader) readBlocks(config *Config, s *scope) {
	var audits, backups, components, hosts, policies, workspaces, plugins, profiles, tasks, telemetries, tokens, unknown []*hclsyntax.Block
	definitions := newResolver(s)
	identities, stack := make(map[string][]*hclsyntax.Block), make(map[string][]*hclsyntax.Block)
	for _, f := range l.fragments {
		l.topLevelAttributes(f.body)
		for _, b := range f.body.Blocks {
			switch b.Type {
			case "audit":
				audits = append(audits, b)
			case "backup":
				backups = append(backups, b)
			case "component":
				components = append(components, b)
			case "host":
				hosts = append(hosts, b)
			case "policy":
				policies = append(policies, b)
			case "locals":
				definitions.addLocals(b)
			case "tokens":
				tokens = append(tokens, b)
			case "workspace":
				workspaces = append(workspaces, b)
			case "plugin":
				plugins = append(plugins, b)
			case "api", "agent", "oidc":
				identities[b.Type] = append(identities[b.Type], b)
			case "rule", "tasks":
				tasks = append(tasks, b)
			case "telemetry":
				telemetries = append(telemetries, b)
			case "protocol", "maintenance", "hook":
				stack[b.Type] = append(stack[b.Type], b)
			case "sandbox_profile":
				profiles = append(profiles, b)
			default:
				l.errorf(b.TypeRange, "Unknown block type", "There is no block type %q.%s", b.Type, l.didYouMean(b.Type, topLevelBlocks))
				unknown = append(unknown, b)
			}
		}
	}
	definitions.addDataDir(hosts, l.dir)
	definitions.resolveAll()
	l.report(definitions.diags...)

	for _, b := range unknown {
		l.evaluateBlock(b, s)
	}
	config.Audit = l.readAudits(audits, s)
	config.Host = l.readHosts(hosts, s)
	config.Policy = l.readPolicies(policies, s)
	config.Tokens = l.readTokens(tokens, s)
	config.Workspaces = l.readWorkspaces(workspaces, s)
	config.Plugins = l.readPlugins(plugins, s)
	config.Protocols = l.readProtocols(stack["protocol"], config.Plugins, s)
	l.readTaskBlocks(config, tasks, s)
	config.Maintenance = l.readMaintenance(stack["maintenance"], config.Protocols, s)
	config.Hooks = l.readHooks(config, stack["hook"], s)
	l.readIdentities(config, identities, s)
	config.Telemetry = l.readTelemetries(telemetries, s)
	config.SandboxProfiles = l.readSandboxProfiles(profiles, s)
	l.checkPluginProfiles(config, profiles)
	config.Components = l.readComponents(components, s)
	config.Backups = l.readBackups(backups, s)
	l.checkBackups(config, backups)
	l.checkComponents(config, components, plugins)
	l.checkComponentProfiles(config, profiles)
	l.checkVerifyProfiles(config, profiles)
}

func (l *loader) topLevelAttributes(b *hclsyntax.Body) {
	for _, name := range sortedKeys(b.Attributes) {
		hint := l.didYouMean(name, topLevelBlocks)
		if slices.Contains(topLevelBlocks, name) {
			hint = fmt.Sprintf(" %q is a block: write it without the equals sign.", name)
		}
		l.errorf(b.Attributes[name].NameRange, "Unexpected attribute", "There are only blocks at the top level, no attributes.%s", hint)
	}
}

// addDataDir makes path.data stand for what the first host block sets.
func (r *resolver) addDataDir(hosts []*hclsyntax.Block, dir string) {
	if len(hosts) == 0 {
		if r.scope.incomplete {
			r.scope.path["data"] = cty.DynamicVal
		}
		return
	}
	attr, set := hosts[0].Body.Attributes["data_dir"]
	if !set {
		return
	}
	r.scope.path["data"] = cty.DynamicVal
	r.definitions["path.data"] = &definition{
		name: "path.data", expr: attr.Expr, rng: attr.NameRange,
		store: func(value cty.Value) {
			r.scope.path["data"] = dataDir(value, dir)
		},
	}
}

// dataDir returns the value of path.data for that of host.data_dir, whose
// errors are reported when the host block is read.
func dataDir(value cty.Value, dir string) cty.Value {
	switch {
	case !value.IsKnown() || value.Type() != cty.String:
		return cty.DynamicVal
	case value.IsNull():
		return cty.StringVal(absolutePath(dir, defaultDataDir))
	default:
		return cty.StringVal(absolutePath(dir, value.AsString()))
	}
}

func (l *loader) readHosts(blocks []*hclsyntax.Block, s *scope) Host {
	host := readHost(&l.reporter, nil, l.dir)
	for i, b := range blocks {
		read := readHost(&l.reporter, l.evaluateBlock(b, s), l.dir)
		if i == 0 {
			host = read
			continue
		}
		l.duplicate(b, "host", host.Source)
	}
	return host
}

func (l *loader) readWorkspaces(blocks []*hclsyntax.Block, s *scope) []Workspace {
	var out []Workspace
	names, paths := make(map[string]Range), make(map[string]*Workspace)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		if !l.wantLabels(evaluated, "name") {
			l.allow(evaluated, workspaceAttributes, workspaceBlocks)
			continue
		}
		w := readWorkspace(&l.reporter, evaluated, l.dir)
		if first, taken := names[w.Name]; taken {
			l.duplicate(b, fmt.Sprintf("workspace %q", w.Name), first)
			continue
		}
		names[w.Name] = w.Source
		if attr := evaluated.body.attributes["path"]; attr != nil && w.Path != "" {
			resolved := samePath(w.Path)
			if other, taken := paths[resolved]; taken {
				l.errorf(attr.expr.Range(), "Duplicate workspace path",
					"The workspace %q, at %s, governs the same directory.", other.Name, other.Source)
			} else {
				paths[resolved] = &w
			}
		}
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b Workspace) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (l *loader) readPlugins(blocks []*hclsyntax.Block, s *scope) []Plugin {
	var out []Plugin
	seen := make(map[string]Range)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		if !l.wantLabels(evaluated, "kind", "name") {
			l.allow(evaluated, pluginAttributes, pluginBlocks)
			continue
		}
		p := readPlugin(&l.reporter, evaluated, l.dir)
		p.sources = l.sources
		if first, taken := seen[p.ID()]; taken {
			l.duplicate(b, fmt.Sprintf("plugin %q %q", p.Kind, p.Name), first)
			continue
		}
		seen[p.ID()] = p.Source
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Plugin) int { return strings.Compare(a.ID(), b.ID()) })
	return out
}

func (l *loader) duplicate(b *hclsyntax.Block, what string, first Range) {
	l.errorf(b.DefRange(), "Duplicate block", "There may be only one %s block, and one is at %s.", what, first)
}
