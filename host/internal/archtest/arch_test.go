package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sop-host/sop/"

// rule says what the packages beneath a path may import of ours.
type rule struct {
	path string
	may  []string
	why  string
}

// table is the import table, most specific path first. A path covers the
// packages beneath it.
var table = []rule{
	{"host/cmd/sop-sandbox", []string{"host/internal/sandbox/launch"}, "the launcher has a small heap: nothing of the host but its stages"},
	{"host/cmd/sop", []string{"host/internal/cli"}, "main only begins"},
	{"host/internal/cli", []string{
		"docs",
		"host/internal/api/apierr",
		"host/internal/cli",
		"host/internal/config",
		"host/internal/doctor",
		"host/internal/socket",
		"host/internal/startup",
		"host/internal/timeline",
		"proto/sop/api",
		"sdk",
	}, "commands speak to the daemon by its API; startup is for serving and for scans without a daemon, config for validate and fmt, doctor for its report, socket for where a host listens"},
	{"host/internal/startup", []string{
		"host/internal/doctor",
		"host/internal/importers",
		"host/internal/machine",
		"host/internal/timeline",
		"host/internal/component",
		"host/internal/process",
		"host/internal/halt",
		"host/internal/hook",
		"host/internal/agent",
		"host/internal/answer",
		"host/internal/api",
		"host/internal/audit",
		"host/internal/backup",
		"host/internal/config",
		"host/internal/event",
		"host/internal/flow",
		"host/internal/gap",
		"host/internal/generate",
		"host/internal/integration",
		"host/internal/metrics",
		"host/internal/nexus",
		"host/internal/patch",
		"host/internal/plugin",
		"host/internal/policy",
		"host/internal/maintenance",
		"host/internal/pressure",
		"host/internal/protocol",
		"host/internal/sandbox",
		"host/internal/scratch",
		"host/internal/socket",
		"host/internal/store",
		"host/internal/task",
		"host/internal/token",
		"host/internal/trace",
		"host/internal/verify",
		"host/internal/workspace",
		"proto",
		"sdk",
	}, "the composition root sees everything below it"},
	{"host/internal/api/apierr", []string{"sdk/fault"}, "clients read errors with it, and hold nothing of a server"},
	{"host/internal/api", []string{
		"host/internal/component",
		"docs",
		"host/internal/agent",
		"host/internal/api/apierr",
		"host/internal/answer",
		"host/internal/audit",
		"host/internal/backup",
		"host/internal/config",
		"host/internal/event",
		"host/internal/filter",
		"host/internal/gap",
		"host/internal/nexus",
		"host/internal/patch",
		"host/internal/plugin",
		"host/internal/policy",
		"host/internal/maintenance",
		"host/internal/protocol",
		"host/internal/secret",
		"host/internal/socket",
		"host/internal/task",
		"host/internal/token",
		"host/internal/trace",
		"proto",
		"sdk",
	}, "handlers convert the features' types and call the nexus"},
	{"host/internal/audit/ship", []string{"host/internal/audit", "sdk"}, "carries the log away: it reads it and knows no feature"},
	{"host/internal/nexus", []string{
		"host/internal/component",
		"host/internal/agent",
		"host/internal/audit",
		"host/internal/backup",
		"host/internal/event",
		"host/internal/gap",
		"host/internal/patch",
		"host/internal/plugin",
		"host/internal/policy",
		"host/internal/maintenance",
		"host/internal/protocol",
		"host/internal/task",
		"host/internal/token",
		"host/internal/trace",
		"proto",
		"sdk",
	}, "the door knows the features' types and calls them through interfaces of its own"},
	{"host/internal/store/storetest", []string{
		"host/internal/agent",
		"host/internal/answer",
		"host/internal/audit",
		"host/internal/backup",
		"host/internal/filter",
		"host/internal/gap",
		"host/internal/patch",
		"host/internal/sandbox",
		"host/internal/maintenance",
		"host/internal/task",
		"host/internal/token",
		"sdk",
	}, "the suite knows the interfaces, not the engines"},
	{"host/internal/store", []string{
		"host/internal/agent",
		"host/internal/answer",
		"host/internal/audit",
		"host/internal/backup",
		"host/internal/event",
		"host/internal/filter",
		"host/internal/gap",
		"host/internal/hook",
		"host/internal/patch",
		"host/internal/store",
		"host/internal/maintenance",
		"host/internal/task",
		"host/internal/token",
		"host/internal/trace",
		"sdk",
	}, "a store implements what the features declare"},
	{"host/internal/gap", []string{
		"host/internal/event",
		"host/internal/filter",
		"host/internal/workspace",
		"proto/sop/plugin",
		"sdk",
	}, "features never import each other"},
	{"host/internal/token", []string{
		"host/internal/event",
		"host/internal/filter",
		"host/internal/secret",
		"sdk",
	}, "features never import each other"},
	{"host/internal/flow", []string{
		"host/internal/backup",
		"host/internal/integration",
		"host/internal/patch",
		"host/internal/sandbox",
		"host/internal/task",
		"sdk",
	}, "the loop knows the features' types and calls them through interfaces of its own"},
	{"host/internal/task", []string{"sdk", "host/internal/filter"}, "features never import each other"},
	{"host/internal/agent", []string{
		"host/internal/event",
		"host/internal/filter",
		"host/internal/secret",
		"sdk",
	}, "features never import each other"},
	{"host/internal/backup", []string{
		"host/internal/event",
		"host/internal/filter",
		"proto/sop/plugin",
		"sdk",
	}, "features never import each other"},
	{"host/internal/integration", []string{
		"host/internal/merge",
		"host/internal/patchfile",
		"host/internal/sandbox",
		"host/internal/scratch",
		"sdk",
	}, "the only place that changes a workspace: it takes change sets, and knows no other feature"},
	{"host/internal/patchfile", []string{
		"host/internal/sandbox",
	}, "a leaf: a change set as text"},
	{"host/internal/merge", []string{
		"host/internal/scratch",
		"sdk",
	}, "a leaf: three texts, of whatever"},
	{"host/internal/patch", []string{
		"host/internal/filter",
		"host/internal/merge",
		"host/internal/patchfile",
		"host/internal/sandbox",
		"sdk",
	}, "features never import each other; a patch is a change set with what is known of it"},
	{"host/internal/protocol", []string{"proto/sop/plugin", "sdk"}, "features never import each other"},
	{"host/internal/maintenance", []string{"sdk", "host/internal/filter"}, "features never import each other"},
	{"host/internal/hook", []string{"host/internal/event", "sdk"}, "it follows what happens, and knows no feature that makes it happen"},
	{"host/internal/secret", nil, "a leaf: the form of secrets, for the features that give some out"},
	{"host/internal/audit", []string{"sdk", "host/internal/filter"}, "one record, of whatever it is about: it knows no feature, and of sdk only the errors"},
	{"host/internal/plugin", []string{
		"host/internal/process",
		"host/internal/sandbox",
		"host/internal/sandbox/cgroup",
		"host/internal/sandbox/launch",
		"host/internal/trace",
		"proto/sop/plugin",
		"sdk",
	}, "the plugin host knows no feature, places what it starts in cgroups and has it isolated"},
	{"host/internal/generate", []string{
		"host/internal/plugin",
		"host/internal/sandbox",
		"proto/sop/plugin",
		"sdk",
	}, "a run of a generator: it joins plugin and sandbox, and knows no feature"},
	{"host/internal/component", []string{"host/internal/event", "host/internal/process", "host/internal/sandbox/cgroup", "host/internal/sandbox/launch", "host/internal/socket", "sdk"}, "features never import each other"},
	{"host/internal/timeline", nil, "a leaf: what is made of the steps of a boot, for whoever shows it"},
	{"sdk/heap", nil, "a leaf: when the collector runs, whatever is collected"},
	{"host/internal/machine", nil, "measures, and knows nothing of a host"},
	{"host/internal/doctor", []string{"sdk"}, "runs checks and knows nothing of what they examine"},
	{"host/internal/halt", []string{"sdk"}, "a mark that is there whatever else fails: it knows nothing"},
	{"host/internal/process", []string{"host/internal/sandbox/cgroup"}, "what plugins and components have in common: it starts processes and knows neither"},
	{"host/internal/verify", []string{
		"host/internal/sandbox",
		"host/internal/scratch",
		"host/internal/workspace",
		"proto/sop/plugin",
	}, "whether a patch may be trusted is no feature's affair: it knows views and what detectors answer"},
	{"host/internal/sandbox/cgroup", nil, "a leaf: what the kernel offers, whoever starts processes"},
	{"host/internal/sandbox/launch", nil, "what runs between host and command is small and knows neither"},
	{"host/internal/sandbox", []string{"host/internal/sandbox", "host/internal/scratch"}, "isolation knows nothing of what it isolates"},
	{"host/internal/policy", nil, "one decision, whatever it is about: it knows no feature"},
	{"host/internal/metrics", nil, "a leaf: it defines what is counted, and who counts declares what it calls"},
	{"host/internal/trace", nil, "a leaf, as event is: work at every level is a span"},
	{"sdk/fault", nil, "a leaf: the words for what went wrong, for programs that serve nothing as well"},
	{"docs", nil, "the OpenAPI document, to be embedded"},
	{"host/internal/answer", []string{"sdk"}, "it remembers answers and knows nothing of what was asked"},
	{"host/internal/config", []string{"host/internal/event"}, "a leaf, but that hooks name kinds of events"},
	{"host/internal/event", nil, "a leaf"},
	{"host/internal/scratch", nil, "a leaf: temporary directories, whoever needs one"},
	{"host/internal/pressure", nil, "a leaf: what runs short on the machine"},
	{"host/internal/socket", nil, "a leaf: where a host listens"},
	{"host/internal/filter", nil, "a leaf: the language in which lists are narrowed"},
	{"host/internal/workspace", nil, "a leaf"},
	{"host/internal/importers", []string{"host/internal/workspace"}, "it counts in a tree that was walked, and knows nothing of what for"},
	{"host/internal/archtest", nil, "imported by nobody, imports nothing"},
	{"plugins/internal/limits", []string{"sdk"}, "what backup plugins share of their settings: it says what is wrong with them in the words of the sdk"},
	{"plugins/internal/tree", []string{"proto/sop/plugin", "sdk"}, "what backup plugins do on the disk: they answer with it"},
	{"plugins/internal", []string{"plugins/internal"}, "what bundled plugins share knows neither host nor sdk"},
	{"plugins", []string{"plugins/internal", "proto/sop/plugin", "sdk"}, "a plugin knows the contract and nothing of the host"},
	{"sdk/plugintest", []string{"sdk", "proto/sop/plugin"}, "for the tests of plugin authors"},
	{"sdk/scaffold", []string{"sdk/scaffold"}, "scaffolds are applied by plugins and by the command line, and know neither"},
	{"sdk", []string{"sdk", "proto"}, "authors get the contracts and nothing of the host"},
	{"proto", []string{"proto"}, "generated code"},
	{"test", []string{"test", "proto", "sdk"}, "end-to-end tests drive the built programs and know the contract only"},
	{"host/internal/bench", []string{
		"host/internal/api",
		"host/internal/integration",
		"host/internal/plugin",
		"host/internal/sandbox",
		"proto",
		"sdk",
	}, "measurements of what is beside it"},
}

// listed returns our packages with what they import of ours, tests left out.
func listed(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module)
		packages[name] = nil
		for _, imported := range fields[1:] {
			if ours, ok := strings.CutPrefix(imported, module); ok {
				packages[name] = append(packages[name], ours)
			}
		}
	}
	return packages
}

// front is all of ours that the command in front may be made of, and heavy what of
// others makes a program slow to start.
var (
	front = []string{"host/cmd/sop", "host/internal/cli", "host/internal/cli/term", "host/internal/api/apierr", "host/internal/socket", "proto/sop/api", "sdk/fault"}
	heavy = []string{"google.golang.org/grpc", "github.com/hashicorp/go-plugin", "github.com/hashicorp/hcl/v2", "database/sql", "encoding/gob"}
)

// The command in front asks a host and is small: it answers before the whole host
// would have begun.
func TestFrontIsSmall(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "front", "./host/cmd/sop")
	cmd.Dir = "../../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		ours, isOurs := strings.CutPrefix(pkg, module)
		if isOurs && !slices.ContainsFunc(front, func(path string) bool { return beneath(ours, path) }) || slices.Contains(heavy, pkg) {
			t.Errorf("the command in front holds %s", pkg)
		}
	}
}

// beneath says whether pkg is path or lies beneath it.
func beneath(pkg, path string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }

func TestImports(t *testing.T) {
	packages := listed(t)
	if len(packages) < 10 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for pkg, imports := range packages {
		i := slices.IndexFunc(table, func(r rule) bool { return beneath(pkg, r.path) })
		if i < 0 {
			t.Errorf("%s has no row in the import table: give it one, with its reason", pkg)
			continue
		}
		for _, imported := range imports {
			if !slices.ContainsFunc(table[i].may, func(path string) bool { return beneath(imported, path) }) {
				t.Errorf("%s imports %s, which its row does not allow: %s", pkg, imported, table[i].why)
			}
		}
	}
}

// Every row is in use, so that the table does not outlive what it describes.
func TestTableIsInUse(t *testing.T) {
	packages := listed(t)
	for _, r := range table {
		found := false
		for pkg := range packages {
			found = found || beneath(pkg, r.path)
		}
		if !found {
			t.Errorf("no package lies beneath %s: delete its row", r.path)
		}
	}
}
