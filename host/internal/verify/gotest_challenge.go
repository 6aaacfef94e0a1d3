package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// A dare is a package whose tests are made to fail, each in words of its own.
type dare struct {
	dir  string
	says map[string]string // by test
}

// challenge makes the tests fail of each package that the patch can reach. A
// program whose tests cannot be seen to fail has not shown that they pass.
func (g *goTests) challenge(ctx context.Context, before *baseline) error {
	reached, err := g.reached(ctx, sortedKeys(before.packages))
	if err != nil {
		return err
	}
	overlay := make(map[string][]byte)
	var dares []dare
	for _, dir := range reached {
		if d := g.dareIn(dir, before.packages[dir], overlay); len(d.says) > 0 {
			dares = append(dares, d)
		}
	}
	if len(dares) == 0 {
		return nil
	}
	b := &building{patch: g.work.spec.Patch, overlay: overlay}
	if err := g.build(ctx, b); err != nil {
		return err
	}
	if b.failed != "" {
		g.verdict.Runs = append(g.verdict.Runs, b.run)
		g.verdict.Tests.problem("tests that were made to fail cannot be built")
		return nil
	}
	for _, d := range dares {
		r, err := g.run(ctx, g.work.spec.Patch, d.dir, b.programs[d.dir])
		if err != nil {
			return err
		}
		if test := d.missed(r); test != "" {
			g.verdict.Tests.problem("%s: %s was made to fail and did not: what its tests say cannot be believed", d.dir, test)
			g.verdict.Runs = append(g.verdict.Runs, r.evidence)
			continue
		}
		g.verdict.Tests.Challenged += len(d.says)
	}
	return nil
}

// missed is a test whose failure is not in a report; "" when all are.
func (d *dare) missed(r *report) string {
	for _, test := range sortedKeys(d.says) {
		if r.ok || r.tests[test].verdict() != testFailed || !strings.Contains(r.text, d.says[test]) {
			return test
		}
	}
	return ""
}

// dareIn makes the expected tests of a package fail first thing, as any test
// might, and puts their files into an overlay.
func (g *goTests) dareIn(dir string, expected map[string]pass, overlay map[string][]byte) dare {
	d := dare{dir: dir, says: make(map[string]string)}
	sources := g.work.testSources(dir)
	for i := range sources {
		source := &sources[i]
		text := source.text
		for _, test := range slices.Backward(source.tests) { // the offsets of those before stay
			if _, passes := expected[test.name]; !passes || test.arg == "" {
				continue
			}
			says := fmt.Sprintf("got %d, want %d", rand.Int32(), rand.Int32()) //nolint:gosec // it is in nobody's interest to guess it beforehand
			d.says[test.name] = says
			text = slices.Concat(text[:test.body], fmt.Appendf(nil, " %s.Fatal(%q);", test.arg, says), text[test.body:])
		}
		if len(text) != len(source.text) {
			overlay[source.name] = text
		}
	}
	return d
}

// reached are the directories of those packages whose tests have anything of
// the patch in them; all of them where that cannot be found out.
func (g *goTests) reached(ctx context.Context, dirs []string) ([]string, error) {
	list, err := g.packages(ctx)
	if err != nil || list == "" {
		return dirs, err
	}
	found := reachedBy(g.work.spec.Patch.Set, list)
	return slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool { return !found[dir] }), nil
}

// packages lists the packages with the patch, once: directory, import path, what each
// depends on, and name. Empty: they cannot be listed.
func (g *goTests) packages(ctx context.Context) (string, error) {
	if g.list != nil {
		return g.list.Text, nil
	}
	spec := g.view(g.work.spec.Patch)
	spec.Argv = append([]string{"go", "list", "-test", "-f", "{{.Dir}}\t{{.ImportPath}}\t{{join .Deps \" \"}}\t{{.Name}}"}, g.step.Tested()...)
	out, err := g.work.verifier.Sandbox.Run(ctx, spec)
	if err != nil {
		return "", err
	}
	g.list = new(sandbox.Output)
	if passed, _ := succeeded(&out.Result); passed && !out.Stdout.Truncated {
		g.list.Text = out.Stdout.Text
	}
	return g.list.Text, out.Close()
}

// listed are the directories of the packages with the patch, each with the name of
// its package.
func (g *goTests) listed(ctx context.Context) (map[string]string, error) {
	list, err := g.packages(ctx)
	names := make(map[string]string)
	for line := range strings.Lines(list) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) == 4 && !strings.HasSuffix(fields[1], ".test") && !strings.Contains(fields[1], " ") {
			names[listedDir(fields[0])] = fields[3]
		}
	}
	return names, err
}

// listedDir is a directory as the workspace has it.
func listedDir(dir string) string {
	dir = strings.TrimPrefix(strings.TrimPrefix(dir, "/workspace"), "/")
	if dir == "" {
		return "."
	}
	return dir
}

// reachedBy reads a list of packages with their directories and all that they
// depend on.
func reachedBy(set *sandbox.ChangeSet, list string) map[string]bool {
	type listed struct {
		dir  string
		deps []string
	}
	var packages []listed
	changed := make(map[string]bool) // import paths
	for line := range strings.Lines(list) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) < 3 {
			continue
		}
		dir := listedDir(fields[0])
		name, _, _ := strings.Cut(fields[1], " ")
		packages = append(packages, listed{dir, append(strings.Fields(fields[2]), name)})
		for i := range set.Changes {
			if beneath(path.Dir(set.Changes[i].Path), dir) {
				changed[name] = true
			}
		}
	}
	found := make(map[string]bool)
	for _, p := range packages {
		if slices.ContainsFunc(p.deps, func(dep string) bool { return changed[dep] }) {
			found[p.dir] = true
		}
	}
	return found
}

// beneath says whether dir is within, or lies beneath, another directory. All
// lies beneath the root, but only what is in it belongs to its package: files
// that it embeds may be deeper, and are counted for it.
func beneath(dir, within string) bool {
	return within == "." || dir == within || strings.HasPrefix(dir, within+"/")
}
