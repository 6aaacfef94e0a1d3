package main

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sop-host/sop/sdk/detector"
)

// generator is a family of site generators by how they resolve links.
type generator uint8

const (
	// byFile resolves links to Markdown as files, and all else as routes:
	// VitePress, Docusaurus, MkDocs, mdBook and most others.
	byFile generator = iota + 1
	// byRoute also looks pages up by name, and gives them addresses that do not
	// follow their paths: Hugo, Jekyll, Zola, Hexo, Eleventy.
	byRoute
	// byLabel resolves links to labels as well: Sphinx with MyST, Docfx.
	byLabel
)

// site is a tree of pages that a generator makes addresses for.
type site struct {
	root string // "." or a directory
	kind generator
	// names are the last elements of the addresses that may exist in it.
	names map[string]bool
}

// siteConfigs are the files that make their directory a site.
var siteConfigs = map[string]generator{
	"hugo.toml": byRoute, "hugo.yaml": byRoute, "hugo.yml": byRoute, "hugo.json": byRoute,
	"_config.yml": byRoute, "_config.yaml": byRoute, "_config.toml": byRoute,
	".eleventy.js": byRoute, "eleventy.config.js": byRoute, "eleventy.config.mjs": byRoute, "eleventy.config.cjs": byRoute,
	"gatsby-config.js": byRoute, "gatsby-config.ts": byRoute, "gatsby-config.mjs": byRoute,
	"nuxt.config.js": byRoute, "nuxt.config.ts": byRoute, "pelicanconf.py": byRoute,
	"next.config.js": byRoute, "next.config.mjs": byRoute, "next.config.ts": byRoute,
	"contentlayer.config.ts": byRoute, "contentlayer.config.js": byRoute,

	"docusaurus.config.js": byFile, "docusaurus.config.ts": byFile, "docusaurus.config.mjs": byFile, "docusaurus.config.cjs": byFile,
	"mkdocs.yml": byFile, "mkdocs.yaml": byFile, "properdocs.yml": byFile, "zensical.toml": byFile,
	"astro.config.mjs": byRoute, "astro.config.js": byRoute, "astro.config.ts": byRoute, "astro.config.cjs": byRoute,
	"rspress.config.ts": byFile, "rspress.config.js": byFile, "source.config.ts": byFile,
	"book.toml": byFile, ".gitbook.yaml": byFile, "book.json": byFile, "retype.yml": byFile,
	"_sidebar.md": byFile, "mint.json": byRoute, "_quarto.yml": byFile,
	"svelte.config.js": byRoute, "conf.py": byLabel, "docfx.json": byLabel,
}

// siteDirs are the directories that make their parent a site.
var siteDirs = map[string]generator{".vitepress": byFile, ".vuepress": byFile, ".dumi": byFile}

// ambiguous configurations make a site only beside one of the given names.
var ambiguous = map[string][]string{
	"config.toml": {"content", "layouts", "archetypes", "themes"},
	"config.yaml": {"content", "layouts", "archetypes", "themes"},
	"config.yml":  {"content", "layouts", "archetypes", "themes"},
	"config.json": {"layouts", "archetypes"},
}

// sites of a workspace by root.
type sites map[string]*site

// isSiteConfig says whether the file at name can change what the sites are.
func isSiteConfig(name string) bool {
	base := path.Base(name)
	return siteConfigs[base] != 0 || ambiguous[base] != nil || base == ".gitmodules" || base == "index.html"
}

// findSites looks for configurations of site generators in the manifest.
func findSites(scan *detector.Scan) sites {
	found := make(sites)
	var sections []string // directories that only Hugo names a page for
	for _, f := range scan.Files() {
		dir, base := path.Split(f.Path)
		root := path.Clean(dir)
		if base == "_index.md" {
			sections = append(sections, root)
		}
		if kind := siteKind(scan, root, base); kind != 0 {
			if base == "mkdocs.yml" || base == "mkdocs.yaml" {
				root = mkdocsRoot(scan, f, root)
			}
			found.add(root, kind)
			if docs := path.Join(path.Dir(root), "docs"); strings.HasPrefix(base, "docusaurus.") && root != "." &&
				scan.HasDir(docs) && !scan.HasDir(path.Join(root, "docs")) {
				found.add(docs, kind) // its usual place beside website/
			}
		}
		for dir != "" {
			name := path.Base(dir)
			dir, _ = path.Split(strings.TrimSuffix(dir, "/"))
			switch {
			case siteDirs[name] != 0:
				found.add(path.Clean(dir), siteDirs[name])
			case name == "_default" && path.Base(dir) == "config": // Hugo's directory of configurations
				found.add(path.Dir(path.Clean(dir)), byRoute)
			}
		}
	}
	// Content that is published from another repository has no configuration.
	slices.SortFunc(sections, func(a, b string) int { return len(a) - len(b) })
	for _, root := range sections {
		if in := found.of(root + "/_index.md"); in == nil || in.kind < byRoute {
			found.add(root, byRoute)
		}
	}
	return found
}

// siteKind says which generator a file named base in root configures, or 0.
func siteKind(scan *detector.Scan, root, base string) generator {
	if beside, ok := ambiguous[base]; ok {
		for _, dir := range beside {
			if scan.HasDir(path.Join(root, dir)) {
				return byRoute
			}
		}
		return 0
	}
	kind := siteConfigs[base]
	switch base {
	case "conf.py", "book.json": // common names: ask for a page beside them
		for _, page := range []string{"index.rst", "index.md", "SUMMARY.md"} {
			if _, ok := scan.Lookup(path.Join(root, page)); ok {
				return kind
			}
		}
		return 0
	case "index.html": // of Docsify, which has this mark of GitHub Pages beside it
		if _, ok := scan.Lookup(path.Join(root, ".nojekyll")); ok {
			return byFile
		}
	}
	return kind
}

// docsDir is MkDocs' setting of where pages are.
var docsDir = regexp.MustCompile(`(?m)^docs_dir:\s*["']?([^"'\s#]+)`)

// mkdocsRoot is the directory of the pages of the configuration f in root.
func mkdocsRoot(scan *detector.Scan, f detector.File, root string) string {
	dir := "docs"
	if src, err := scan.Read(f); err == nil {
		if m := docsDir.FindSubmatch(src.Content); m != nil {
			dir = string(m[1])
		}
	}
	return path.Join(root, dir)
}

func (s sites) add(root string, kind generator) {
	if have := s[root]; have == nil || have.kind < kind {
		s[root] = &site{root: root, kind: kind, names: make(map[string]bool)}
	}
	for _, name := range anyLocale(root) {
		if s[name] == nil || strings.Contains("/"+root+"/", "/en/") {
			s[name] = s[root] // translations fall back to it
		}
	}
}

// locale matches the name of a directory for one language.
var locale = regexp.MustCompile(`^[a-z]{2}(-[A-Za-z0-9]{2,8})?$`)

// anyLocale returns dir once for each element that names a language, with a
// star in its place.
func anyLocale(dir string) []string {
	var all []string
	elements := strings.Split(dir, "/")
	for i, e := range elements {
		if locale.MatchString(e) {
			elements[i] = "*"
			all = append(all, strings.Join(elements, "/"))
			elements[i] = e
		}
	}
	return all
}

// original is the site that s is a translation of, or nil.
func (s sites) original(of *site) *site {
	for _, name := range anyLocale(of.root) {
		if found := s[name]; found != nil && found != of {
			return found
		}
	}
	return nil
}

// of returns the innermost site that name lies in, or nil.
func (s sites) of(name string) *site {
	if len(s) == 0 {
		return nil
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if found := s[dir]; found != nil {
			return found
		}
		for _, name := range anyLocale(dir) {
			if found := s[name]; found != nil {
				return found
			}
		}
		if dir == "." || dir == "/" {
			return nil
		}
	}
}

// index fills in the names of all sites.
func (s sites) index(files []detector.File, docs map[string]*document) {
	if len(s) == 0 {
		return
	}
	last, in := "", (*site)(nil)
	for _, f := range files {
		dir := path.Dir(f.Path)
		if dir != last {
			last, in = dir, s.of(f.Path)
			for at := dir; in != nil && at != in.root && at != "."; at = path.Dir(at) {
				in.names[pageName(path.Base(at))] = true
			}
		}
		if in == nil {
			continue
		}
		in.names[pageName(path.Base(f.Path))] = true
		in.names[strings.ToLower(path.Base(f.Path))] = true
		if doc := docs[f.Path]; doc != nil {
			for _, r := range doc.routes {
				in.names[r] = true
			}
		}
	}
}

// numbered matches what generators strip from the start of a page's name.
var numbered = regexp.MustCompile(`^\d{4}-\d\d?-\d\d?-|^\d+[-_. ]+`)

// pageName is what the address of a page called base may end in: lower case,
// without number, date and extension.
func pageName(base string) string {
	name := strings.ToLower(base)
	switch ext := path.Ext(name); ext {
	case ".md", ".markdown", ".mdx", ".html", ".htm", ".rst", ".adoc", ".ipynb", ".txt", ".vue", ".astro", ".svelte",
		".tsx", ".jsx", ".ts", ".js", ".njk", ".liquid", ".org", ".qmd", ".gotmpl", ".tmpl":
		name = strings.TrimSuffix(name, ext)
	}
	if short := numbered.ReplaceAllString(name, ""); short != "" {
		name = short
	}
	return strings.ReplaceAll(name, " ", "-")
}

// contentDirs are where, beneath their root, sites keep what the root of their
// addresses shows.
var contentDirs = []string{
	"", "content", "content/en", "docs", "src", "source", "pages", "src/pages", "src/content", "src/content/docs",
	"public", "static", "assets", ".vitepress/public", ".vuepress/public", "src/public", "docs/public", "website", "blog",
}

// pageSuffixes turn the stem of an address into the files that may stand for it.
var pageSuffixes = []string{
	"", ".md", "/index.md", "/_index.md", "/README.md", "/readme.md", ".html", "/index.html", ".markdown", ".mdx", "/index.mdx",
	".rst", "/index.rst", ".adoc", ".ipynb", ".vue", ".astro", ".tsx", ".jsx", "/index.tsx", "/index.js", "/index.vue", "/index.astro",
}

// candidates calls try with every file that the address target on the page from
// may stand for, until it returns true.
func (s *site) candidates(from, target string, try func(string) bool) bool {
	stem := strings.TrimSuffix(target, "/")
	for _, ext := range []string{".html", ".htm", ".md", ".mdx"} {
		if cut, ok := strings.CutSuffix(stem, ext); ok {
			stem = cut
			break
		}
	}
	bases := make([]string, 0, len(contentDirs)+5)
	if !strings.HasPrefix(target, "/") {
		page := strings.TrimSuffix(from, path.Ext(from))
		bases = append(bases, path.Dir(from), page, path.Dir(path.Dir(from)), path.Dir(s.untranslated(from)))
	}
	for _, dir := range contentDirs {
		bases = append(bases, path.Join(s.root, dir))
	}
	bases = append(bases, ".")
	for _, base := range bases {
		if try(path.Join(base, target)) {
			return true
		}
		for _, suffix := range pageSuffixes {
			if try(path.Join(base, stem) + suffix) {
				return true
			}
		}
	}
	return false
}

// untranslated is where the original of the page at from would be in s.
func (s *site) untranslated(from string) string {
	root, elements := strings.Split(s.root, "/"), strings.Split(from, "/")
	if s.root == "." || len(elements) <= len(root) {
		return from
	}
	return s.root + "/" + strings.Join(elements[len(root):], "/")
}

// knows says whether the site may have an address that ends as target does.
func (s *site) knows(target string) bool {
	base := path.Base(strings.TrimSuffix(target, "/"))
	return s.names[pageName(base)] || s.names[strings.ToLower(base)]
}

// submodulePath matches where .gitmodules puts a submodule.
var submodulePath = regexp.MustCompile(`(?m)^\s*path\s*=\s*(\S.*?)\s*$`)

// submodules lists the directories that other repositories fill.
func submodules(scan *detector.Scan) []string {
	f, ok := scan.Lookup(".gitmodules")
	if !ok {
		return nil
	}
	src, err := scan.Read(f)
	if err != nil {
		return nil
	}
	var dirs []string
	for _, m := range submodulePath.FindAllSubmatch(src.Content, -1) {
		dirs = append(dirs, string(bytes.Trim(m[1], `"/`)))
	}
	return dirs
}
