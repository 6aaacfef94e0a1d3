package main

import (
	"context"
	"path"
	"strings"
)

// language is how a kind of file is examined.
type language struct {
	name    string
	examine func(ctx context.Context, r *report) error
}

// syntax is how comments and strings are written in a language, so that the one
// can be told from the other.
type syntax struct {
	// line begins a comment that ends with the line.
	line []string
	// word says that it does so only at the start of a line or after white
	// space; first, only as the first thing on its line.
	word, first bool
	blocks      []pair
	nested      bool // blocks do
	quotes      []quote
	// runes says that ' holds one character, and is no quote where it does not.
	runes bool
	// slashes says that / may begin a regular expression.
	slashes bool
	heredoc bool // <<WORD begins a text that ends with a line WORD
	dollars bool // $tag$ begins a string that ends with $tag$
	indents bool // | or > begins a text that ends with its indentation
}

type pair struct{ open, close string }

// quote is one form of string. The first that fits is taken.
type quote struct {
	open, close string
	escape      byte // protects what follows; 0: none
	doubled     bool // the closing quote written twice is part of the text
	multi       bool // may go over lines
	hashes      bool // open stands between hashes, and as many follow close
	value       bool // opens only where a value may begin
	holes       bool // holds code in ${ }
}

var (
	double = quote{open: `"`, close: `"`, escape: '\\'}
	single = quote{open: `'`, close: `'`, escape: '\\'}
	triple = quote{open: `"""`, close: `"""`, escape: '\\', multi: true}
	thrice = quote{open: `'''`, close: `'''`, escape: '\\', multi: true}
	slash  = []string{"//"}
	hash   = []string{"#"}
	stars  = []pair{{"/*", "*/"}}
)

// multi returns q as one that may go over lines.
func multi(q quote) quote {
	q.multi = true
	return q
}

// syntaxes of the languages in which only comments are looked at.
var syntaxes = map[string]*syntax{
	"c":      {line: slash, blocks: stars, runes: true, quotes: []quote{{open: `R"(`, close: `)"`, multi: true}, double}},
	"csharp": {line: slash, blocks: stars, runes: true, quotes: []quote{triple, {open: `$@"`, close: `"`, doubled: true, multi: true}, {open: `@$"`, close: `"`, doubled: true, multi: true}, {open: `@"`, close: `"`, doubled: true, multi: true}, double}},
	"java":   {line: slash, blocks: stars, runes: true, quotes: []quote{triple, double}},
	"kotlin": {line: slash, blocks: stars, nested: true, runes: true, quotes: []quote{{open: `"""`, close: `"""`, multi: true}, double}},
	"swift":  {line: slash, blocks: stars, nested: true, quotes: []quote{{open: `"`, close: `"`, hashes: true, multi: true}, triple, double}},
	"rust":   {line: slash, blocks: stars, nested: true, runes: true, quotes: []quote{{open: `r"`, close: `"`, multi: true}, {open: `r`, close: `"`, hashes: true, multi: true}, multi(double)}},
	"script": {line: slash, blocks: stars, slashes: true, quotes: []quote{double, single, {open: "`", close: "`", escape: '\\', multi: true, holes: true}}},
	"dart":   {line: slash, blocks: stars, nested: true, quotes: []quote{triple, thrice, double, single}},
	"groovy": {line: slash, blocks: stars, quotes: []quote{triple, thrice, double, single}},
	"proto":  {line: slash, blocks: stars, quotes: []quote{double, single}},
	"shell":  {line: hash, word: true, heredoc: true, quotes: []quote{{open: `$'`, close: `'`, escape: '\\', multi: true}, {open: `'`, close: `'`, multi: true}, multi(double)}},
	"ruby":   {line: hash, word: true, heredoc: true, slashes: true, blocks: []pair{{"\n=begin", "\n=end"}}, quotes: []quote{double, single, {open: "`", close: "`", escape: '\\'}}},
	"yaml":   {line: hash, word: true, indents: true, quotes: []quote{{open: `'`, close: `'`, doubled: true, multi: true, value: true}, {open: `"`, close: `"`, escape: '\\', multi: true, value: true}}},
	"toml":   {line: hash, quotes: []quote{triple, {open: `'''`, close: `'''`, multi: true}, double, {open: `'`, close: `'`}}},
	"hcl":    {line: []string{"#", "//"}, blocks: stars, heredoc: true, quotes: []quote{{open: `"`, close: `"`, escape: '\\', holes: true}}},
	"make":   {line: hash, word: true, quotes: []quote{double, single}},
	"docker": {line: hash, first: true},
	"sql":    {line: []string{"--"}, blocks: stars, dollars: true, quotes: []quote{{open: `'`, close: `'`, doubled: true, multi: true}, {open: `"`, close: `"`, doubled: true}, {open: "`", close: "`"}}},
	"lua":    {line: []string{"--"}, blocks: []pair{{"--[[", "]]"}, {"--[=[", "]=]"}, {"--[==[", "]==]"}}, quotes: []quote{{open: "[[", close: "]]", multi: true}, {open: "[=[", close: "]=]", multi: true}, {open: "[==[", close: "]==]", multi: true}, double, single}},
	"css":    {blocks: stars, quotes: []quote{double, single}},
	"scss":   {line: slash, blocks: stars, quotes: []quote{double, single}},
	"markup": {blocks: []pair{{"<!--", "-->"}}, quotes: []quote{{open: "<![CDATA[", close: "]]>", multi: true}}},
}

// extensions name the language of a file.
var extensions = map[string]string{
	".go": "go", ".py": "python", ".pyi": "python", ".pyw": "python",
	".c": "c", ".h": "c", ".cc": "c", ".cpp": "c", ".cxx": "c", ".hh": "c", ".hpp": "c", ".hxx": "c", ".m": "c", ".mm": "c",
	".cs": "csharp", ".java": "java", ".scala": "java", ".kt": "kotlin", ".kts": "kotlin", ".swift": "swift", ".rs": "rust",
	".js": "script", ".cjs": "script", ".mjs": "script", ".jsx": "script", ".ts": "script", ".cts": "script", ".mts": "script", ".tsx": "script",
	".dart": "dart", ".groovy": "groovy", ".gradle": "groovy", ".proto": "proto",
	".sh": "shell", ".bash": "shell", ".zsh": "shell", ".ksh": "shell", ".bats": "shell", ".rb": "ruby", ".rake": "ruby", ".gemspec": "ruby",
	".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".hcl": "hcl", ".tf": "hcl", ".tfvars": "hcl", ".nomad": "hcl",
	".mk": "make", ".mak": "make", ".dockerfile": "docker", ".sql": "sql", ".lua": "lua",
	".css": "css", ".scss": "scss", ".less": "scss", ".html": "markup", ".htm": "markup", ".xhtml": "markup", ".xml": "markup", ".xsl": "markup", ".xslt": "markup", ".svg": "markup", ".vue": "markup", ".svelte": "markup",
}

// names of files that say their language.
var names = map[string]string{
	"Makefile": "make", "makefile": "make", "GNUmakefile": "make", "Dockerfile": "docker", "Containerfile": "docker",
	"Rakefile": "ruby", "Gemfile": "ruby", "Vagrantfile": "ruby", "Jenkinsfile": "groovy",
}

// languages by name.
var languages = func() map[string]*language {
	all := map[string]*language{
		"go":     {name: "go", examine: examineGo},
		"python": {name: "python", examine: examinePython},
	}
	for name, s := range syntaxes {
		all[name] = &language{name: name, examine: s.examine}
	}
	return all
}()

// languageOf returns the language of a file by its name, or nil.
func languageOf(name string) *language {
	base := path.Base(name)
	if l, ok := names[base]; ok {
		return languages[l]
	}
	if prefix, _, ok := strings.Cut(base, "."); ok && prefix == "Dockerfile" {
		return languages["docker"]
	}
	return languages[extensions[strings.ToLower(path.Ext(base))]]
}

// examine looks for markers in the comments.
func (s *syntax) examine(_ context.Context, r *report) error {
	if !r.set.markers.in(r.src.Content) {
		return nil
	}
	s.comments(r.src.Content, func(line int, text []byte) { r.comment(line, text, nil) })
	return nil
}
