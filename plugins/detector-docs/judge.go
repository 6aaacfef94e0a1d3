package main

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/sop-host/sop/sdk/detector"
)

// fault is what is wrong in a document, as one of its links or as a whole.
type fault struct {
	rule string
	link int // index; -1 for the README itself
}

// judge decides where links lead, by what is known of the whole workspace.
type judge struct {
	scan    *detector.Scan
	state   *markdownState
	root    *os.Root
	sites   sites
	foreign []string        // directories of submodules
	listed  map[string]bool // files and directories of the manifest
	onDisk  map[string]bool // what was asked of the file system
}

func newJudge(scan *detector.Scan, state *markdownState, root *os.Root) *judge {
	j := &judge{
		scan: scan, state: state, root: root, sites: findSites(scan), foreign: submodules(scan),
		listed: map[string]bool{".": true}, onDisk: make(map[string]bool),
	}
	j.sites.index(scan.Files(), state.docs)
	for _, f := range scan.Files() {
		j.listed[f.Path] = true
		for dir := path.Dir(f.Path); !j.listed[dir]; dir = path.Dir(dir) {
			j.listed[dir] = true
		}
	}
	return j
}

// faults of the document at from.
func (j *judge) faults(from string, doc *document) []fault {
	if isIssueTemplate(from) {
		return nil
	}
	var all []fault
	s := j.sites.of(from)
	for i, l := range doc.links {
		if rule := j.link(from, doc, s, l); rule != "" {
			all = append(all, fault{rule: rule, link: i})
		}
	}
	return all
}

// isIssueTemplate says whether name is filled into pages of the forge, where
// its relative links start from another address.
func isIssueTemplate(name string) bool {
	lower := strings.ToLower(name)
	return strings.Contains(lower, "issue_template") || strings.Contains(lower, "pull_request_template")
}

// link returns the rule that a link breaks, or "".
func (j *judge) link(from string, doc *document, s *site, l link) string {
	if l.target == "" {
		return j.anchor(from, s, l.fragment)
	}
	to, verdict := j.resolve(from, doc, s, l)
	switch verdict {
	case missing:
		return ruleLink
	case found:
		return j.anchor(j.page(to, s), s, l.fragment)
	}
	return ""
}

// verdict of resolving a target.
type verdict uint8

const (
	found   verdict = iota // at the path
	missing                // nowhere
	unknown                // perhaps somewhere that cannot be seen from here
)

// resolve finds the file or directory that l leads to.
func (j *judge) resolve(from string, doc *document, s *site, l link) (string, verdict) {
	to, inside := locate(from, l.target)
	if !inside {
		return "", unknown
	}
	if j.exists(to) {
		return to, found
	}
	if j.isForeign(to) {
		return "", unknown
	}
	if s == nil {
		if doc.matter && isRoute(l.target) {
			return "", unknown // of a site that is configured elsewhere
		}
		return "", missing
	}
	routed := j.routed(from, s, l)
	if routed && l.fragment == "" {
		return "", unknown // wherever it leads, it is not blamed
	}
	var hit string
	try := func(name string) bool {
		hit = name
		return j.listed[name]
	}
	if s.candidates(from, l.target, try) {
		return hit, found
	}
	if original := j.sites.original(s); original != nil && original.candidates(from, l.target, try) {
		return hit, found
	}
	if routed {
		return "", unknown
	}
	for _, dir := range contentDirs { // what git ignores there is served as well
		if name := path.Join(s.root, dir, l.target); j.exists(name) {
			return name, found
		}
	}
	return "", missing
}

// isRoute says whether target looks like an address rather than a file.
func isRoute(target string) bool {
	ext := path.Ext(target)
	return strings.HasPrefix(target, "/") || strings.HasSuffix(target, "/") || ext == "" || ext == ".html" || ext == ".htm"
}

// routed says whether a target that is no file may still be an address that the
// site's generator makes.
func (j *judge) routed(from string, s *site, l link) bool {
	target := l.target
	switch {
	case strings.HasPrefix(target, "/"), strings.HasPrefix(target, "@"), strings.HasPrefix(target, "~"):
		return true
	case isMarkdown(target):
		// Hugo and its like find pages by name; Docusaurus falls back from
		// translations to originals.
		return (s.kind == byRoute || strings.Contains(from, "i18n/")) && s.knows(target)
	}
	switch ext := path.Ext(target); {
	case ext == "", strings.HasSuffix(target, "/"):
		return s.kind != byFile || s.knows(target)
	case ext == ".html", ext == ".htm", ext == ".xml":
		return true
	}
	return s.knows(target)
}

// locate resolves target on the page from; it is not inside when it leaves the
// workspace.
func locate(from, target string) (to string, inside bool) {
	if strings.HasPrefix(target, "/") {
		to = path.Clean(strings.TrimLeft(target, "/"))
	} else {
		to = path.Join(path.Dir(from), target)
	}
	return to, to != ".." && !strings.HasPrefix(to, "../")
}

// exists says whether there is something at name: in the manifest, or else on
// disk, for ignored files and links are not listed.
func (j *judge) exists(name string) bool {
	if j.listed[name] {
		return true
	}
	if known, ok := j.onDisk[name]; ok {
		return known
	}
	_, err := j.root.Lstat(name)
	there := !isAbsence(err)
	j.onDisk[name] = there
	return there
}

// isAbsence says whether err proves that there is nothing. A link that leads
// outside, or a directory that may not be read, proves nothing.
func isAbsence(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) ||
		errors.Is(err, syscall.EINVAL)
}

func (j *judge) isForeign(name string) bool {
	for _, dir := range j.foreign {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// page is the Markdown file that is shown at name: itself, or what stands for a
// directory; "" when that is no Markdown.
func (j *judge) page(name string, s *site) string {
	if isMarkdown(name) {
		return name
	}
	pages := []string{"README.md", "readme.md", "Readme.md"}
	if s != nil {
		pages = []string{"index.md", "_index.md", "README.md", "readme.md"}
	}
	for _, page := range pages {
		if full := path.Join(name, page); j.listed[full] {
			return full
		}
	}
	return ""
}

// anchor returns [ruleAnchor] when the page does not provide fragment.
func (j *judge) anchor(page string, s *site, fragment string) string {
	if page == "" || conventional(fragment) || s != nil && s.kind == byLabel {
		return ""
	}
	doc := j.state.parsed(j.scan, page)
	if doc == nil {
		return ""
	}
	in := j.sites.of(page)
	if (s != nil || in != nil) && doc.open {
		return ""
	}
	fragment = strings.TrimPrefix(fragment, "user-content-")
	if doc.anchors.has(fragment, s != nil || in != nil) {
		return ""
	}
	return ruleAnchor
}
