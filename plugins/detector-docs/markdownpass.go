package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

// markdownState is what is known of all Markdown files.
type markdownState struct {
	mu    sync.Mutex
	docs  map[string]*document
	other map[string]*document // targets that are not examined themselves
	// files is the manifest that the verdicts were made from.
	files []detector.File
	// readmes are the places that had a README finding.
	readmes map[string]bool
}

func newMarkdownState() *markdownState {
	return &markdownState{docs: make(map[string]*document), other: make(map[string]*document), readmes: make(map[string]bool)}
}

// markdownPass finds READMEs that say nothing and links that lead nowhere. A
// first step reads what has changed; a second judges the links of all files
// from memory, for a target may appear, vanish or change while the file that
// names it stays; a third reports the files that were read or are judged
// otherwise than before.
func markdownPass(ctx context.Context, scan *detector.Scan, set *settings) error {
	if !scan.Enabled(ruleReadme) && !scan.Enabled(ruleLink) && !scan.Enabled(ruleAnchor) {
		return nil
	}
	d := deltaOf(scan)
	state := recall(scan, d, "markdown", newMarkdownState)
	if d.none() {
		return nil
	}
	root, err := os.OpenRoot(scan.Root)
	if err != nil {
		return fmt.Errorf("open workspace: %w", err)
	}
	defer func() { _ = root.Close() }()

	p := &markdownScan{scan: scan, set: set, state: state, root: root, fresh: make(map[string]bool)}
	relevant := p.forget(d)
	if err := scan.EachOf(ctx, d.changed, p.match, p.examine); err != nil {
		return err
	}
	p.readmes = judgeReadmes(scan, root, set)
	p.reportReadmes()
	if relevant || len(p.fresh) > 0 {
		p.judgeLinks()
	}
	state.files = scan.Files()
	return p.report(ctx)
}

// markdownScan is one run of [markdownPass].
type markdownScan struct {
	scan    *detector.Scan
	set     *settings
	state   *markdownState
	root    *os.Root
	readmes *readmes
	fresh   map[string]bool // read in this scan; guarded by state.mu
	// faults are the new verdicts; nil when links were not judged.
	faults map[string][]fault
}

// forget drops what was known of changed and removed files. It says whether
// any of that can change where a link leads.
func (p *markdownScan) forget(d delta) (relevant bool) {
	drop := func(name string) {
		delete(p.state.docs, name)
		delete(p.state.other, name)
	}
	relevant = d.whole || len(d.removed) > 0
	for _, f := range d.changed {
		drop(f.Path)
		relevant = relevant || isMarkdown(f.Path) || isSiteConfig(f.Path) || !p.listed(f.Path)
	}
	for _, name := range d.removed {
		drop(name)
	}
	return relevant
}

// listed says whether name was in the manifest before.
func (p *markdownScan) listed(name string) bool {
	_, ok := slices.BinarySearchFunc(p.state.files, name, func(f detector.File, name string) int {
		switch {
		case f.Path < name:
			return -1
		case f.Path > name:
			return 1
		}
		return 0
	})
	return ok
}

func (p *markdownScan) match(f detector.File) bool {
	if !isMarkdown(f.Path) {
		return false
	}
	if f.Testdata {
		p.scan.Skip("testdata")
		return false
	}
	return true
}

// examine is called by the SDK on several goroutines.
func (p *markdownScan) examine(src *detector.Source) error {
	doc := readDocument(src.Content)
	if matchAny(p.set.MarkdownExclude, src.Path) {
		doc.links = nil
	}
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	p.state.docs[src.Path] = doc
	p.fresh[src.Path] = true
	return nil
}

// parsed returns the document at name with its anchors, reading it if that is
// still to be done, or nil when it cannot be read.
func (s *markdownState) parsed(scan *detector.Scan, name string) *document {
	doc := s.docs[name]
	if doc == nil {
		doc = s.other[name]
	}
	if doc != nil && doc.parsed {
		return doc
	}
	file, ok := scan.Lookup(name)
	if !ok {
		return nil
	}
	src, err := scan.Read(file)
	if err != nil {
		return nil
	}
	full := parseDocument(src.Content)
	if doc == nil {
		full.links = nil
		s.other[name] = full
		return full
	}
	doc.parsed, doc.anchors, doc.open = true, full.anchors, full.open
	return doc
}

// reportReadmes reports what is no Markdown file; the rest is a fault of its
// document.
func (p *markdownScan) reportReadmes() {
	places := make(map[string]bool)
	for _, name := range p.readmes.covered {
		places[name] = true
		p.scan.Cover(name)
	}
	for name := range p.state.readmes {
		if !places[name] {
			p.scan.Cover(name) // no longer a component, or gone
		}
	}
	clear(p.state.readmes)
	for _, f := range p.readmes.findings {
		p.state.readmes[f.GetLocation().GetPath()] = true
		p.scan.Report(f)
	}
}

// judgeLinks decides where the links of all documents lead.
func (p *markdownScan) judgeLinks() {
	j := newJudge(p.scan, p.state, p.root)
	p.faults = make(map[string][]fault, len(p.state.docs))
	for name, doc := range p.state.docs {
		p.faults[name] = j.faults(name, doc)
	}
}

// report reports every document that was read, or is judged otherwise than
// before.
func (p *markdownScan) report(ctx context.Context) error {
	for name, doc := range p.state.docs {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := slices.DeleteFunc(slices.Clone(doc.verdict), func(f fault) bool { return f.rule == ruleReadme })
		if p.faults != nil {
			now = p.faults[name]
		}
		if _, empty := p.readmes.empty[name]; empty {
			now = append(slices.Clone(now), fault{rule: ruleReadme, link: -1})
		}
		before := doc.verdict
		doc.verdict = now
		switch fresh := p.fresh[name]; {
		case fresh && len(now) > 0, !fresh && !slices.Equal(before, now):
			p.reportDocument(name, doc, fresh)
		}
	}
	return nil
}

// reportDocument reports all faults of one document.
func (p *markdownScan) reportDocument(name string, doc *document, fresh bool) {
	file, ok := p.scan.Lookup(name)
	if !ok {
		return
	}
	src, err := p.scan.Read(file)
	if err != nil && !errors.Is(err, detector.ErrSkipped) {
		p.scan.Diagnose(name, 0, "UNREADABLE", err.Error())
	}
	if !fresh {
		if src == nil || int64(len(src.Content)) != file.Size {
			return // changed since it was listed; the next scan looks again
		}
		p.scan.Cover(name)
	}
	report := reporterOf(p.scan, name, src)
	for _, f := range doc.verdict {
		if f.link < 0 {
			report(emptyReadme(p.readmes.empty[name]))
			continue
		}
		report(doc.links[f.link].finding(f.rule))
	}
}

// finding about a link that breaks a rule.
func (l link) finding(rule string) *pluginv1.Finding {
	for _, s := range []*string{&l.dest, &l.target, &l.fragment} {
		*s = strings.ToValidUTF8(*s, "\uFFFD") // files may hold anything, messages may not
	}
	f := &pluginv1.Finding{
		Rule: rule, Location: &pluginv1.Location{Line: l.line}, Properties: map[string]string{"target": l.dest},
	}
	switch {
	case rule == ruleAnchor:
		where := l.target
		if where == "" {
			where = "this file"
		}
		f.Message = fmt.Sprintf("The link %s names the anchor #%s, which %s does not have.", l.dest, l.fragment, where)
		f.Remedy = "Use the anchor of a heading that is there, or add one of that name."
	case l.image:
		f.Message = fmt.Sprintf("The image %s does not exist in the workspace.", l.dest)
		f.Remedy = "Correct the path, add the image, or remove the reference."
	default:
		f.Message = fmt.Sprintf("The link %s leads to no file or directory of the workspace.", l.dest)
		f.Remedy = "Correct the path, add what it should lead to, or remove the link."
	}
	return f
}
