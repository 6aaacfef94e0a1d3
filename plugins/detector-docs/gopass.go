package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

// goState is what is known of all Go files, by directory and by name in it.
type goState struct {
	mu   sync.Mutex
	dirs map[string]map[string]*goFile
}

// goVerdict is what a file is to be blamed for in the light of its package.
type goVerdict struct {
	pkg  bool // the package has no comment, and this is its first file
	open []goSymbol
}

func (v goVerdict) clean() bool { return !v.pkg && len(v.open) == 0 }

func (v goVerdict) equal(w goVerdict) bool { return v.pkg == w.pkg && slices.Equal(v.open, w.open) }

// goPass finds exported symbols and packages without comment. What depends on
// one file alone is reported while it is read; the rest when all of its package
// is known. A file that has not changed but is judged otherwise than before is
// reported again as a whole, because covering it speaks for all its findings.
func goPass(ctx context.Context, scan *detector.Scan, set *settings) error {
	if !scan.Enabled(ruleExported) && !scan.Enabled(rulePackage) {
		return nil
	}
	d := deltaOf(scan)
	state := recall(scan, d, "go", func() *goState { return &goState{dirs: make(map[string]map[string]*goFile)} })
	p := &goScan{scan: scan, set: set, state: state, fresh: make(map[string]bool)}
	before := p.judge(p.touched(d))
	p.forget(d)
	if err := scan.EachOf(ctx, d.changed, p.match, p.examine); err != nil {
		return err
	}
	for dir := range before {
		if err := ctx.Err(); err != nil {
			return err
		}
		for name, verdict := range judgePackages(state.dirs[dir]) {
			p.settle(path.Join(dir, name), state.dirs[dir][name], before[dir][name], verdict)
		}
	}
	return nil
}

// goScan is one run of [goPass].
type goScan struct {
	scan  *detector.Scan
	set   *settings
	state *goState
	fresh map[string]bool // paths examined in this scan; guarded by state.mu
}

func (p *goScan) match(f detector.File) bool {
	if f.Testdata && strings.HasSuffix(f.Path, ".go") {
		p.scan.Skip("testdata")
	}
	return isGoSource(f)
}

// touched lists the directories in which Go files have changed.
func (p *goScan) touched(d delta) map[string]bool {
	dirs := make(map[string]bool)
	for _, f := range d.changed {
		if isGoSource(f) {
			dirs[path.Dir(f.Path)] = true
		}
	}
	for _, name := range d.removed {
		if strings.HasSuffix(name, ".go") {
			dirs[path.Dir(name)] = true
		}
	}
	return dirs
}

// judge returns the verdicts in each of dirs, by file name.
func (p *goScan) judge(dirs map[string]bool) map[string]map[string]goVerdict {
	verdicts := make(map[string]map[string]goVerdict, len(dirs))
	for dir := range dirs {
		verdicts[dir] = judgePackages(p.state.dirs[dir])
	}
	return verdicts
}

// forget drops what was known of changed and removed files.
func (p *goScan) forget(d delta) {
	drop := func(name string) {
		dir, base := path.Dir(name), path.Base(name)
		delete(p.state.dirs[dir], base)
		if len(p.state.dirs[dir]) == 0 {
			delete(p.state.dirs, dir)
		}
	}
	for _, f := range d.changed {
		drop(f.Path)
	}
	for _, name := range d.removed {
		drop(name)
	}
}

// examine is called by the SDK on several goroutines.
func (p *goScan) examine(src *detector.Source) error {
	facts := examineGo(src, p.set)
	if p.scan.Enabled(ruleExported) && matchAny(p.set.ExportedExclude, src.Path) {
		facts.missing, facts.sorting = nil, nil
	}
	for _, s := range facts.missing {
		src.Report(s.finding())
	}
	p.state.add(src.Path, facts, p.fresh)
	if facts.broken {
		return fmt.Errorf("syntax error: %w", detector.ErrSkipped)
	}
	return nil
}

func (s *goState) add(name string, facts *goFile, fresh map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh[name] = true
	dir := path.Dir(name)
	if s.dirs[dir] == nil {
		s.dirs[dir] = make(map[string]*goFile)
	}
	s.dirs[dir][path.Base(name)] = facts
}

// settle reports what a file is blamed for in the light of its package.
func (p *goScan) settle(name string, facts *goFile, before, now goVerdict) {
	fresh := p.fresh[name]
	if fresh && now.clean() || !fresh && before.equal(now) {
		return
	}
	file, ok := p.scan.Lookup(name)
	if !ok {
		return
	}
	src, err := p.scan.Read(file)
	if err != nil && !errors.Is(err, detector.ErrSkipped) {
		p.scan.Diagnose(name, 0, "UNREADABLE", err.Error())
	}
	if src == nil && !fresh {
		return
	}
	report := reporterOf(p.scan, name, src)
	if !fresh && !facts.broken {
		if int64(len(src.Content)) != file.Size {
			return // changed since it was listed; the next scan looks again
		}
		p.scan.Cover(name)
		for _, s := range facts.missing {
			report(s.finding())
		}
	}
	if now.pkg {
		report(packageFinding(facts))
	}
	for _, s := range now.open {
		report(s.finding())
	}
}

// judgePackages returns the verdict on every file of one directory that is part
// of a package.
func judgePackages(files map[string]*goFile) map[string]goVerdict {
	type pkg struct {
		documented bool
		first      string
		methods    map[string]sortMethods
	}
	packages := make(map[string]*pkg)
	for name, f := range files {
		if f.pkg == "" {
			continue
		}
		p := packages[f.pkg]
		if p == nil {
			p = &pkg{first: name, methods: make(map[string]sortMethods)}
			packages[f.pkg] = p
		}
		p.documented = p.documented || f.documented
		p.first = min(p.first, name)
		for recv, m := range f.methods {
			p.methods[recv] |= m
		}
	}
	verdicts := make(map[string]goVerdict, len(files))
	for name, f := range files {
		p := packages[f.pkg]
		if p == nil {
			continue
		}
		v := goVerdict{pkg: !p.documented && p.first == name}
		for _, s := range f.sorting {
			recv, _, _ := strings.Cut(s.name, ".")
			if p.methods[recv] != hasAll {
				v.open = append(v.open, s)
			}
		}
		verdicts[name] = v
	}
	return verdicts
}

// reporterOf reports in src, or at path alone when the source cannot be read.
func reporterOf(scan *detector.Scan, name string, src *detector.Source) func(*pluginv1.Finding) {
	if src != nil {
		return src.Report
	}
	return func(f *pluginv1.Finding) {
		f.Location.Path = name
		scan.Report(f)
	}
}

// finding of a symbol without comment.
func (s goSymbol) finding() *pluginv1.Finding {
	name := s.name[strings.LastIndexByte(s.name, '.')+1:]
	return &pluginv1.Finding{
		Rule:       ruleExported,
		Location:   &pluginv1.Location{Line: s.line, Symbol: s.name},
		Message:    fmt.Sprintf("Exported %s %s has no doc comment.", s.kind, s.name),
		Remedy:     fmt.Sprintf("Write a comment directly above it that begins with %q and says what callers need to know, or unexport it.", name),
		Properties: map[string]string{"kind": s.kind},
	}
}

// packageFinding is about the package that f belongs to.
func packageFinding(f *goFile) *pluginv1.Finding {
	opening := "Package " + f.pkg
	if f.pkg == "main" {
		opening = "Command <name>"
	}
	return &pluginv1.Finding{
		Rule:     rulePackage,
		Location: &pluginv1.Location{Line: f.clause, Symbol: f.pkg},
		Message:  fmt.Sprintf("Package %s has no package comment.", f.pkg),
		Remedy:   fmt.Sprintf("Write a comment that begins with %q directly above the package clause of one file, such as this one or doc.go.", opening),
	}
}
