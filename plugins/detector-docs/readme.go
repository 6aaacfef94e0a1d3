package main

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

// componentManifests are the files that make a directory a component.
var componentManifests = map[string]bool{
	"go.mod": true, "package.json": true, "pyproject.toml": true, "setup.py": true, "setup.cfg": true, "Cargo.toml": true,
	"pom.xml": true, "build.gradle": true, "build.gradle.kts": true, "composer.json": true, "Gemfile": true, "mix.exs": true,
	"pubspec.yaml": true, "Package.swift": true, "Dockerfile": true, "Chart.yaml": true, "deno.json": true,
}

// noComponent are top-level directories that hold material about the rest.
var noComponent = map[string]bool{
	"doc": true, "docs": true, "documentation": true, "test": true, "tests": true, "testdata": true,
	"vendor": true, "third_party": true, "node_modules": true,
}

// shelf is what one directory holds that matters for its README.
type shelf struct {
	component bool
	readmes   []detector.File
}

// readmes is the verdict on all READMEs of a workspace.
type readmes struct {
	findings []*pluginv1.Finding // at directories and at READMEs that are no Markdown
	covered  []string            // what those findings are complete for
	empty    map[string]string   // Markdown READMEs without content, and whose
}

// isReadme says whether base is a README in one of its usual spellings.
func isReadme(base string) bool {
	switch strings.ToLower(base) {
	case "readme", "readme.md", "readme.markdown", "readme.rst", "readme.txt", "readme.adoc", "readme.asciidoc", "readme.org":
		return true
	}
	return false
}

// judgeReadmes looks at the root and at every component.
func judgeReadmes(scan *detector.Scan, root *os.Root, set *settings) *readmes {
	r := &readmes{empty: make(map[string]string)}
	shelves := findShelves(scan.Files(), set)
	dirs := make([]string, 0, len(shelves))
	for dir := range shelves {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		r.judge(scan, root, dir, shelves[dir])
	}
	return r
}

// findShelves returns the root, the top-level directories and what
// component_dirs names.
func findShelves(files []detector.File, set *settings) map[string]*shelf {
	shelves := map[string]*shelf{".": {component: true}}
	last := ""
	for _, f := range files {
		dir, base := path.Split(f.Path)
		dir = path.Clean(dir)
		s := shelves[dir]
		if dir != last && s == nil && !strings.HasPrefix(dir, ".") {
			addShelves(shelves, dir, set)
			s = shelves[dir]
		}
		last = dir
		if s == nil {
			continue
		}
		if isReadme(base) {
			s.readmes = append(s.readmes, f)
		}
		if componentManifests[base] && !noComponent[dir] && !strings.Contains(dir, "/") {
			s.component = true
		}
	}
	return shelves
}

// addShelves adds what is of interest among dir and the directories above it.
func addShelves(shelves map[string]*shelf, dir string, set *settings) {
	for ; dir != "."; dir = path.Dir(dir) {
		if shelves[dir] != nil {
			continue
		}
		named := matchAny(set.ComponentDirs, dir)
		if named || !strings.Contains(dir, "/") {
			shelves[dir] = &shelf{component: named}
		}
	}
}

// judge adds the verdict on one directory.
func (r *readmes) judge(scan *detector.Scan, root *os.Root, dir string, s *shelf) {
	r.covered = append(r.covered, dir)
	var empty []string
	full := false
	for _, f := range s.readmes {
		src, err := scan.Read(f)
		if err == nil && !isMarkdown(f.Path) {
			r.covered = append(r.covered, f.Path)
		}
		if err == nil && saysNothing(src.Content) {
			empty = append(empty, f.Path)
		} else {
			full = true
		}
	}
	switch {
	case !s.component || full:
	case len(empty) == 0:
		if !hasUnlisted(root, dir) {
			r.findings = append(r.findings, missingReadme(dir))
		}
	case isMarkdown(empty[0]):
		r.empty[empty[0]] = dir
	default:
		f := emptyReadme(dir)
		f.Location.Path = empty[0]
		r.findings = append(r.findings, f)
	}
}

// hasUnlisted says whether a README is in dir that the manifest does not list:
// a symbolic link, or a file that git ignores. The root's may be in .github.
func hasUnlisted(root *os.Root, dir string) bool {
	dirs := []string{dir}
	if dir == "." {
		dirs = append(dirs, ".github")
	}
	for _, d := range dirs {
		f, err := root.Open(d)
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(-1) // what could be read counts
		_ = f.Close()
		if slices.ContainsFunc(names, isReadme) {
			return true
		}
	}
	return false
}

// saysNothing says whether content is but white space, headings and comments.
func saysNothing(content []byte) bool {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	for {
		from := bytes.Index(content, []byte("<!--"))
		if from < 0 {
			break
		}
		end := after(content, from, "-->")
		if end < 0 {
			break
		}
		content = append(bytes.Clone(content[:from]), content[end:]...)
	}
	lines := bytes.Split(content, []byte{'\n'})
	for i, line := range lines {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' || isUnderline(line) {
			continue
		}
		if line[0] == '=' && bytes.HasPrefix(bytes.TrimLeft(line, "="), []byte(" ")) {
			continue // a heading of AsciiDoc
		}
		if i+1 < len(lines) && isUnderline(bytes.TrimSpace(lines[i+1])) {
			continue
		}
		return false
	}
	return true
}

// isUnderline says whether line makes a heading of the one above it.
func isUnderline(line []byte) bool {
	return len(line) > 1 && (len(bytes.Trim(line, "=")) == 0 || len(bytes.Trim(line, "-")) == 0)
}

func missingReadme(dir string) *pluginv1.Finding {
	return &pluginv1.Finding{
		Rule: ruleReadme, Severity: readmeSeverity(dir),
		Location: &pluginv1.Location{Path: dir},
		Message:  fmt.Sprintf("%s has no README.", readmeOwner(dir)),
		Remedy:   fmt.Sprintf("Add %s that says what it is for, how to build and run it, and where to read on.", path.Join(dir, "README.md")),
	}
}

func emptyReadme(dir string) *pluginv1.Finding {
	return &pluginv1.Finding{
		Rule: ruleReadme, Severity: readmeSeverity(dir),
		Location: &pluginv1.Location{},
		Message:  fmt.Sprintf("The README of %s is empty.", strings.ToLower(readmeOwner(dir)[:1])+readmeOwner(dir)[1:]),
		Remedy:   "Say in it what this is for, how to build and run it, and where to read on.",
	}
}

func readmeOwner(dir string) string {
	if dir == "." {
		return "The workspace"
	}
	return "The component " + dir
}

func readmeSeverity(dir string) pluginv1.Severity {
	if dir == "." {
		return pluginv1.Severity_SEVERITY_MEDIUM
	}
	return pluginv1.Severity_SEVERITY_LOW
}
