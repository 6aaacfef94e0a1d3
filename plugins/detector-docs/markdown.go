package main

import (
	"bytes"
	"path"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// link is a relative link or image.
type link struct {
	// target is the path as written, decoded, without query; empty means the
	// document itself.
	target   string
	fragment string // decoded
	dest     string // as written
	line     int32
	image    bool
}

// document is what is remembered of a Markdown file.
type document struct {
	links   []link
	anchors anchors
	routes  []string // other names that front matter gives the page
	// parsed says that links and anchors are filled in; a file without links is
	// not parsed until another links to an anchor in it.
	parsed bool
	// matter says that the page has front matter: some generator publishes it.
	matter bool
	// open says that the page is put together from more than this file, so that
	// its anchors cannot be known.
	open bool
	// verdict is what was reported last.
	verdict []fault
}

// markdownParser is safe for concurrent use.
var markdownParser = goldmark.New(goldmark.WithExtensions(
	extension.Table, extension.Strikethrough, extension.TaskList, extension.Footnote,
)).Parser()

// isMarkdown says whether path names a Markdown file.
func isMarkdown(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".md", ".markdown", ".mdown", ".mkd", ".mkdn":
		return true
	}
	return false
}

var linkMarks = [][]byte{[]byte("]("), []byte("]:"), []byte("href"), []byte("HREF"), []byte("src"), []byte("SRC")}

// readDocument takes in content, and parses it when it may hold links.
func readDocument(content []byte) *document {
	for _, mark := range linkMarks {
		if bytes.Contains(content, mark) {
			return parseDocument(content)
		}
	}
	matter := frontMatter(content)
	return &document{routes: routesIn(content[:matter]), matter: matter > 0}
}

// parseDocument takes in content with its links and anchors.
func parseDocument(content []byte) *document {
	matter := frontMatter(content)
	doc := &document{parsed: true, routes: routesIn(content[:matter]), matter: matter > 0}
	b := &documentBuilder{doc: doc, source: bytes.TrimPrefix(content[matter:], []byte("\ufeff")), made: newAnchorMaker()}
	b.line = 1 + bytes.Count(content[:matter], []byte{'\n'})
	root := markdownParser.Parse(text.NewReader(b.source), parser.WithContext(parser.NewContext()))
	_ = ast.Walk(root, b.visit) // visit returns no error
	b.attributes()
	doc.anchors = b.made.anchors()
	doc.open = isOpen(content)
	return doc
}

// includes are marks of what site generators fill in: shortcodes, includes and
// template actions.
var includes = [][]byte{
	[]byte("{{"), []byte("{%"), []byte("--8<--"), []byte("{include}"), []byte("[!INCLUDE"), []byte("@include"), []byte("::include"), []byte("::: include"),
}

// isOpen says whether a generator puts more into the page than content holds.
func isOpen(content []byte) bool {
	for _, mark := range includes {
		if bytes.Contains(content, mark) {
			return true
		}
	}
	for {
		i := bytes.IndexByte(content, '<')
		if i < 0 || i+1 >= len(content) {
			return false
		}
		content = content[i+1:]
		if content[0] >= 'A' && content[0] <= 'Z' || isDirective(content) {
			return true // a component
		}
	}
}

// isDirective says whether text, which stands after "<", is a comment such as
// <!-- md:option x -->.
func isDirective(text []byte) bool {
	rest, ok := bytes.CutPrefix(text, []byte("!--"))
	if !ok {
		return false
	}
	rest = bytes.TrimLeft(rest, " ")
	name := bytes.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz")
	return len(name) < len(rest) && len(name) > 0 && name[0] == ':'
}

// documentBuilder walks the tree of one document.
type documentBuilder struct {
	doc    *document
	source []byte
	made   *anchorMaker
	at     int // an offset in source,
	line   int // and its line
}

func (b *documentBuilder) visit(n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	switch n := n.(type) {
	case *ast.Heading:
		b.heading(n)
	case *ast.Link:
		b.link(string(n.Destination), b.lineAt(n.Pos()), false)
	case *ast.Image:
		b.link(string(n.Destination), b.lineAt(n.Pos()), true)
	case *ast.RawHTML:
		if n.Segments.Len() > 0 {
			b.html(n.Segments)
		}
	case *ast.HTMLBlock:
		lines := *n.Lines()
		if n.HasClosure() {
			lines.Append(n.ClosureLine)
		}
		b.html(&lines)
	}
	return ast.WalkContinue, nil
}

// lineAt returns the line of an offset in source; offsets come nearly sorted.
func (b *documentBuilder) lineAt(offset int) int32 {
	offset = min(max(offset, 0), len(b.source))
	if offset >= b.at {
		b.line += bytes.Count(b.source[b.at:offset], []byte{'\n'})
	} else {
		b.line -= bytes.Count(b.source[offset:b.at], []byte{'\n'})
	}
	b.at = offset
	return int32(b.line)
}

// attributeID matches an attribute list with an id, as {#id}, {: #id .class}
// or { id="id" }, that several generators accept after any element.
var attributeID = regexp.MustCompile(`^\{[^{}]*(?:#|\bid=["']?)([^\s{}"']+)[^{}]*\}`)

// attributes adds the ids that attribute lists give.
func (b *documentBuilder) attributes() {
	for rest := b.source; ; {
		i := bytes.IndexByte(rest, '{')
		if i < 0 || i+1 >= len(rest) {
			return
		}
		rest = rest[i:]
		if bytes.IndexByte([]byte("#:. i"), rest[1]) >= 0 {
			line, _, _ := bytes.Cut(rest, []byte{'\n'})
			if m := attributeID.FindSubmatch(line); m != nil {
				b.made.id(string(m[1]))
			}
		}
		rest = rest[1:]
	}
}

// trailingAttributes are no part of a heading's text.
var trailingAttributes = regexp.MustCompile(`\s*\{[^{}]*\}\s*$`)

func (b *documentBuilder) heading(n *ast.Heading) {
	var all, withoutImages strings.Builder
	b.plain(n, &all, true)
	b.plain(n, &withoutImages, false)
	full := all.String()
	b.made.heading(full)
	if bare := trailingAttributes.ReplaceAllString(full, ""); bare != full {
		b.made.heading(bare)
	}
	if bare := withoutImages.String(); bare != full {
		b.made.heading(bare)
	}
}

// plain appends the text of n.
func (b *documentBuilder) plain(n ast.Node, out *strings.Builder, images bool) {
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			value := c.Segment.Value(b.source)
			if n.Kind() != ast.KindCodeSpan {
				value = unescape(value)
			}
			out.Write(value)
			if c.SoftLineBreak() || c.HardLineBreak() {
				out.WriteByte(' ')
			}
		case *ast.String:
			out.Write(c.Value)
		case *ast.AutoLink:
			out.Write(c.Label(b.source))
		case *ast.Image:
			if images {
				b.plain(c, out, images)
			}
		default:
			b.plain(c, out, images)
		}
	}
}

// unescape resolves backslash escapes and entities.
func unescape(s []byte) []byte {
	return util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(s)))
}

// html takes in the tags of raw HTML.
func (b *documentBuilder) html(segments *text.Segments) {
	var joined bytes.Buffer
	for i := range segments.Len() {
		s := segments.At(i)
		joined.Write(s.Value(b.source))
	}
	raw := joined.Bytes()
	first := b.lineAt(segments.At(0).Start)
	tags(raw, func(t tag) {
		b.made.id(t.attrs["id"])
		line := first + int32(bytes.Count(raw[:t.at], []byte{'\n'}))
		switch t.name {
		case "a":
			b.made.id(t.attrs["name"])
			b.link(t.attrs["href"], line, false)
		case "img":
			b.link(t.attrs["src"], line, true)
		}
	})
}

// link adds a destination unless it leads elsewhere than to a file.
func (b *documentBuilder) link(dest string, line int32, image bool) {
	dest = strings.TrimSpace(string(unescape([]byte(dest))))
	if dest == "" || isExternal(dest) || isTemplate(dest) {
		return
	}
	rest, fragment, _ := strings.Cut(dest, "#")
	rest, _, hasQuery := strings.Cut(rest, "?")
	if rest == "" && (fragment == "" || hasQuery) {
		return
	}
	b.doc.links = append(b.doc.links, link{
		target: decode(rest), fragment: decode(fragment), dest: dest, line: line, image: image,
	})
}

// isExternal says whether dest has a scheme or names a host.
func isExternal(dest string) bool {
	if strings.HasPrefix(dest, "//") {
		return true
	}
	i := strings.IndexAny(dest, ":/?#")
	return i > 0 && dest[i] == ':'
}

// isTemplate says whether dest is still to be filled in.
func isTemplate(dest string) bool {
	return strings.ContainsAny(dest, "{}<>$\n") || strings.Contains(dest, "%%")
}
