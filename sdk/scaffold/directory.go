package scaffold

import (
	"bytes"
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Directory is what is known of a directory by what it holds.
type Directory struct {
	// Path is "." for the root; Name is what its manifests, or else its path
	// call it.
	Path, Name string
	Files      int
	// Languages are those of source files, the most frequent first.
	Languages []string
	// Modules are what manifests declare, such as "Go module example.com/x".
	Modules []string
	// Commands are directories of Go programs, relative.
	Commands []string
	// Packages are directories of Go and Python packages, relative.
	Packages []string
	// Targets are those of the Makefile, Scripts those of package.json.
	Targets []Command
	Scripts []Command
	// Build and Test are command lines that the manifests stand for.
	Build, Test []string
	// Directories are those directly within that hold files of the workspace.
	Directories []string
	// Documents are Markdown files directly within and in docs.
	Documents []string
	// License is the path of a licence file; LicenseName what it is, if that is
	// known.
	License, LicenseName string
	// Tests counts files of tests.
	Tests int
}

// Command is something to run, with what it is said to do.
type Command struct{ Name, Summary string }

// sourceLanguages by extension.
var sourceLanguages = map[string]string{
	".go": "Go", ".py": "Python", ".js": "JavaScript", ".ts": "TypeScript", ".tsx": "TypeScript", ".rs": "Rust", ".java": "Java",
	".kt": "Kotlin", ".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".cs": "C#", ".rb": "Ruby", ".php": "PHP", ".swift": "Swift",
	".sh": "shell", ".sql": "SQL", ".proto": "Protocol Buffers", ".tf": "Terraform", ".hcl": "HCL", ".ex": "Elixir", ".scala": "Scala",
}

// survey finds out what dir holds.
func survey(t Tree, dir string) *Directory {
	d := &Directory{Path: dir, Name: path.Base(dir)}
	counts := make(map[string]int)
	for _, name := range beneath(t, dir) {
		rel := relative(dir, name)
		d.Files++
		if language := sourceLanguages[path.Ext(name)]; language != "" {
			counts[language]++
		}
		if isTestFile(name) {
			d.Tests++
		}
		if first, _, nested := strings.Cut(rel, "/"); nested && !strings.HasPrefix(first, ".") {
			d.Directories = append(d.Directories, first)
		}
		d.look(t, name, rel)
	}
	for language := range counts {
		d.Languages = append(d.Languages, language)
	}
	slices.SortFunc(d.Languages, func(a, b string) int {
		if n := counts[b] - counts[a]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	for _, names := range []*[]string{&d.Directories, &d.Commands, &d.Packages, &d.Build, &d.Test} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	d.Packages = slices.DeleteFunc(d.Packages, func(name string) bool { return name == "." })
	if d.Name == "." {
		d.Name = "this workspace"
	}
	return d
}

func relative(dir, name string) string {
	if dir == "." {
		return name
	}
	return strings.TrimPrefix(name, dir+"/")
}

func isTestFile(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, "_test.go") || strings.HasPrefix(base, "test_") && strings.HasSuffix(base, ".py") ||
		strings.Contains(base, ".test.") || strings.Contains(base, ".spec.")
}

// look takes in one file.
func (d *Directory) look(t Tree, name, rel string) {
	base := path.Base(name)
	switch {
	case path.Ext(base) == ".go" && !isTestFile(name):
		d.goFile(t, name, rel)
	case base == "__init__.py":
		d.Packages = append(d.Packages, path.Dir(rel))
	case strings.Contains(rel, "/"):
		if path.Dir(rel) == "docs" && languageOf(rel) == "markdown" {
			d.Documents = append(d.Documents, rel)
		}
	case languageOf(base) == "markdown" && !isReadme(base) && !isLicense(base):
		d.Documents = append(d.Documents, rel)
	case isLicense(base):
		d.license(t, name, rel)
	default:
		d.manifest(t, name, base)
	}
}

var packageClause = regexp.MustCompile(`(?m)^package[ \t]+([\pL_][\pL\pN_]*)`)

func (d *Directory) goFile(t Tree, name, rel string) {
	if strings.Contains("/"+rel, "/testdata/") {
		return
	}
	content, err := t.Read(name)
	if err != nil {
		return
	}
	m := packageClause.FindSubmatch(content)
	switch {
	case m == nil:
	case string(m[1]) == "main":
		d.Commands = append(d.Commands, path.Dir(rel))
	default:
		d.Packages = append(d.Packages, path.Dir(rel))
	}
}

// manifest takes in a file directly in the directory.
func (d *Directory) manifest(t Tree, name, base string) {
	reader := manifests[base]
	if reader == nil {
		return
	}
	if content, err := t.Read(name); err == nil {
		reader(d, content)
	}
}

var manifests = map[string]func(*Directory, []byte){
	"go.mod": (*Directory).goMod, "package.json": (*Directory).packageJSON, "pyproject.toml": (*Directory).pyproject,
	"setup.py":   func(d *Directory, _ []byte) { d.commands("pip install .", "") },
	"Cargo.toml": func(d *Directory, c []byte) { d.toml("Rust crate", c); d.commands("cargo build", "cargo test") },
	"Makefile":   (*Directory).makefile, "Dockerfile": func(d *Directory, _ []byte) { d.commands("docker build .", "") },
	"pom.xml": func(d *Directory, _ []byte) { d.commands("mvn package", "mvn test") },
}

func (d *Directory) commands(build, test string) {
	d.Build = append(d.Build, build)
	if test != "" {
		d.Test = append(d.Test, test)
	}
}

func (d *Directory) declare(what, name string) {
	if name == "" {
		return
	}
	d.Modules = append(d.Modules, what+" `"+name+"`")
	if len(d.Modules) == 1 {
		d.Name = path.Base(name)
	}
}

var (
	moduleLine = regexp.MustCompile(`(?m)^module[ \t]+"?([^\s"]+)`)
	tomlName   = regexp.MustCompile(`(?m)^name[ \t]*=[ \t]*["']([^"'\n]+)["']`)
	makeTarget = regexp.MustCompile(`(?m)^([A-Za-z][A-Za-z0-9_-]*)[ \t]*:(?:[^=\n]*?)(?:##[ \t]*(.*))?$`)
)

func (d *Directory) goMod(content []byte) {
	if m := moduleLine.FindSubmatch(content); m != nil {
		d.declare("Go module", string(m[1]))
	}
	d.commands("go build ./...", "go test ./...")
}

func (d *Directory) pyproject(content []byte) {
	d.toml("Python project", content)
	d.commands("pip install .", "")
}

func (d *Directory) toml(what string, content []byte) {
	if m := tomlName.FindSubmatch(content); m != nil {
		d.declare(what, string(m[1]))
	}
}

func (d *Directory) packageJSON(content []byte) {
	var p struct {
		Name    string            `json:"name"`
		Scripts map[string]string `json:"scripts"`
	}
	if json.Unmarshal(content, &p) != nil {
		return // a broken manifest declares nothing
	}
	d.declare("npm package", p.Name)
	d.Build = append(d.Build, "npm install")
	for name, line := range p.Scripts {
		if !strings.ContainsAny(name+line, "`\n") {
			d.Scripts = append(d.Scripts, Command{name, line})
		}
	}
	slices.SortFunc(d.Scripts, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
}

func (d *Directory) makefile(content []byte) {
	seen := make(map[string]bool)
	for _, m := range makeTarget.FindAllSubmatch(content, -1) {
		if name := string(m[1]); !seen[name] {
			seen[name] = true
			d.Targets = append(d.Targets, Command{name, strings.TrimSpace(string(m[2]))})
		}
	}
}

func isReadme(base string) bool {
	stem := strings.ToLower(strings.TrimSuffix(base, path.Ext(base)))
	return stem == "readme"
}

func isLicense(base string) bool {
	stem, _, _ := strings.Cut(strings.ToLower(base), ".")
	return stem == "license" || stem == "licence" || stem == "copying" || stem == "unlicense"
}

// licenseMarks tell licences by what stands in them.
var licenseMarks = []struct{ mark, name string }{
	{"Apache License", "Apache License 2.0"},
	{"Mozilla Public License", "Mozilla Public License"},
	{"GNU AFFERO GENERAL PUBLIC LICENSE", "GNU Affero General Public License"},
	{"GNU LESSER GENERAL PUBLIC LICENSE", "GNU Lesser General Public License"},
	{"GNU GENERAL PUBLIC LICENSE", "GNU General Public License"},
	{"Permission is hereby granted, free of charge", "MIT License"},
	{"Redistribution and use in source and binary forms", "BSD License"},
	{"Permission to use, copy, modify, and", "ISC License"},
}

func (d *Directory) license(t Tree, name, rel string) {
	if d.License != "" {
		return
	}
	d.License = rel
	content, err := t.Read(name)
	if err != nil {
		return
	}
	for _, l := range licenseMarks {
		if bytes.Contains(content, []byte(l.mark)) {
			d.LicenseName = l.name
			return
		}
	}
}
