package scaffold

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Link is a link of Markdown that leads nowhere, and where it should lead.
type Link struct {
	// Old is the destination as written, New the one to write, and Target the
	// path of the file that New leads to.
	Old, New, Target string
	// By says how Target was found: "content", "name" or "heading".
	By string
}

// destination is where a link's destination stands in a document.
type destination struct {
	from, to int
	text     string
}

// destinations finds the destinations of links and images outside of code.
func destinations(doc string) []destination {
	var all []destination
	fence := ""
	for at := 0; at < len(doc); {
		end := strings.IndexByte(doc[at:], '\n')
		if end < 0 {
			end = len(doc) - at
		}
		line := doc[at : at+end]
		trimmed := strings.TrimLeft(line, " \t>")
		switch mark := fenceMark(trimmed); {
		case fence != "" && mark != "" && strings.HasPrefix(mark, fence) && strings.TrimSpace(trimmed[len(mark):]) == "":
			fence = ""
		case fence == "" && mark != "":
			fence = mark
		case fence == "":
			all = append(all, inLine(line, at)...)
		}
		at += end + 1
	}
	return all
}

// fenceMark is the run of backquotes or tildes that line begins with, if it
// makes a fence.
func fenceMark(line string) string {
	for _, c := range "`~" {
		n := len(line) - len(strings.TrimLeft(line, string(c)))
		if n >= 3 {
			return line[:n]
		}
	}
	return ""
}

// inLine finds the destinations in a line that stands at offset base.
func inLine(line string, base int) []destination {
	var all []destination
	add := func(from, to int) {
		if to > from {
			all = append(all, destination{base + from, base + to, line[from:to]})
		}
	}
	for i := 0; i < len(line); i++ {
		rest := line[i:]
		switch {
		case line[i] == '\\':
			i++
		case line[i] == '`':
			n := len(rest) - len(strings.TrimLeft(rest, "`"))
			if end := strings.Index(rest[n:], rest[:n]); end >= 0 {
				i += n + end + n - 1
			} else {
				i += n - 1
			}
		case strings.HasPrefix(rest, "]("):
			from, to := bounded(line, i+2, ")")
			add(from, to)
		case strings.HasPrefix(rest, "]:") && strings.HasPrefix(strings.TrimLeft(line, " "), "["):
			from, to := bounded(line, i+2, "")
			add(from, to)
		default:
			for _, name := range []string{"href=", "src=", "HREF=", "SRC="} {
				if strings.HasPrefix(rest, name) && len(rest) > len(name) && (rest[len(name)] == '"' || rest[len(name)] == '\'') {
					from := i + len(name) + 1
					if end := strings.IndexByte(line[from:], rest[len(name)]); end >= 0 {
						add(from, from+end)
					}
				}
			}
		}
	}
	return all
}

// bounded is the destination that begins at or after from: in angle brackets,
// or to the next white space or the closing mark that is not balanced.
func bounded(line string, from int, closing string) (int, int) {
	for from < len(line) && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	if from < len(line) && line[from] == '<' {
		if end := strings.IndexByte(line[from:], '>'); end > 0 {
			return from + 1, from + end
		}
	}
	to, depth := from, 0
	for ; to < len(line); to++ {
		switch c := line[to]; {
		case c == ' ' || c == '\t' || c == '\r':
			return from, to
		case c == '\\':
			to++
		case c == '(':
			depth++
		case c == ')' && closing != "":
			if depth == 0 {
				return from, to
			}
			depth--
		}
	}
	return from, min(to, len(line))
}

// targetProperty is the property of a gap that names the link it is about.
const targetProperty = "target"

// brokenLink is the destination that the gap is about.
func (j *job) brokenLink(doc string) (string, error) {
	if target := j.Gap.Properties[targetProperty]; target != "" {
		return target, nil
	}
	best := ""
	for _, d := range destinations(doc) {
		if len(d.text) > len(best) && strings.Contains(j.Gap.Message, " "+d.text+" ") {
			best = d.text
		}
	}
	if best == "" {
		return "", refuse("the gap does not say which link of %s it is about", j.Gap.Path)
	}
	j.link = best
	return best, nil
}

// relink writes what the template says instead of every destination old.
func (j *job) relink(doc string, link *Link) ([]Change, error) {
	data := j.data()
	data.Link = link
	text, err := j.render(data)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(text, " \t\n()<>\"'") {
		return nil, refuse("%q cannot stand as the destination of a link", text)
	}
	all := destinations(doc)
	slices.SortFunc(all, func(a, b destination) int { return cmp.Compare(b.from, a.from) })
	after := doc
	for _, d := range all {
		if d.text == link.Old {
			after = after[:d.from] + text + after[d.to:]
		}
	}
	if after == doc {
		return nil, fmt.Errorf("%s holds no link to %s: %w", j.Gap.Path, link.Old, ErrNothing)
	}
	return []Change{{Path: j.Gap.Path, Before: []byte(doc), Content: []byte(after)}}, nil
}

// markdownLink lets a link lead to where its target has moved.
func markdownLink(j *job) ([]Change, error) {
	content, err := j.read(j.Gap.Path)
	if err != nil {
		return nil, err
	}
	doc := string(content)
	old, err := j.brokenLink(doc)
	if err != nil {
		return nil, err
	}
	name, rest := old, ""
	if i := strings.IndexAny(old, "?#"); i >= 0 {
		name, rest = old[:i], old[i:]
	}
	if decoded, err := url.PathUnescape(name); err == nil {
		name = decoded
	}
	if name == "" {
		return nil, refuse("the link %s names no file", old)
	}
	from := path.Join(path.Dir(j.Gap.Path), name)
	if strings.HasPrefix(name, "/") {
		from = path.Clean(strings.TrimLeft(name, "/"))
	}
	if has(j.Tree, from) || isDir(j.Tree, from) {
		return nil, fmt.Errorf("%s leads to %s: %w", old, from, ErrNothing)
	}
	if !slices.ContainsFunc(destinations(doc), func(d destination) bool { return d.text == old }) {
		return nil, fmt.Errorf("%s holds no link to %s: %w", j.Gap.Path, old, ErrNothing)
	}
	to, by, err := j.moved(from)
	if err != nil {
		return nil, err
	}
	rest = j.anchorIn(to, rest)
	link := &Link{Old: old, Target: to, By: by}
	if strings.HasPrefix(name, "/") {
		link.New = "/" + escapePath(to) + rest
	} else {
		link.New = escapePath(relativeTo(path.Dir(j.Gap.Path), to)) + rest
	}
	return j.relink(doc, link)
}

// anchorIn returns what follows a path in a link with the anchor that target
// has instead of one that it has not, where that is clear.
func (j *job) anchorIn(target, rest string) string {
	query, fragment, ok := strings.Cut(rest, "#")
	if !ok || fragment == "" || languageOf(target) != "markdown" {
		return rest
	}
	content, err := j.read(target)
	if err != nil {
		return rest
	}
	if decoded, err := url.PathUnescape(fragment); err == nil {
		fragment = decoded
	}
	slugs := anchors(string(content))
	if slices.Contains(slugs, strings.ToLower(fragment)) {
		return rest
	}
	if best, err := nearest(fragment, slugs); err == nil {
		return query + "#" + escapePath(best)
	}
	return rest
}

// moved finds where the file at from is now: by its content as it was, or else
// by its name.
func (j *job) moved(from string) (to, by string, err error) {
	if sum := j.Previous[from]; sum != "" {
		same, err := j.withHash(sum, from)
		if err != nil {
			return "", "", err
		}
		if len(same) == 1 {
			return same[0], "content", nil
		}
	}
	var same []string
	for _, name := range j.Tree.Files() {
		if path.Base(name) == path.Base(from) {
			same = append(same, name)
		}
	}
	switch len(same) {
	case 0:
		return "", "", refuse("no file of the workspace is called %s", path.Base(from))
	case 1:
		return same[0], "name", nil
	}
	return "", "", refuse("%d files are called %s: %s", len(same), path.Base(from), list(first(3, same)))
}

// withHash lists the files of a content; those of another extension are not
// looked at.
func (j *job) withHash(sum, from string) ([]string, error) {
	var same []string
	for _, name := range j.Tree.Files() {
		if err := j.ctx.Err(); err != nil {
			return nil, err
		}
		if path.Ext(name) != path.Ext(from) {
			continue
		}
		if content, err := j.Tree.Read(name); err == nil && Hash(content) == sum {
			same = append(same, name)
		}
	}
	return same, nil
}

// relativeTo is the path of name as seen from dir.
func relativeTo(dir, name string) string {
	if dir == "." {
		return name
	}
	from, to := strings.Split(dir, "/"), strings.Split(name, "/")
	for len(from) > 0 && len(to) > 1 && from[0] == to[0] {
		from, to = from[1:], to[1:]
	}
	return strings.Repeat("../", len(from)) + strings.Join(to, "/")
}

// escapePath encodes what would end a destination or mean something in one.
func escapePath(name string) string {
	var out strings.Builder
	for i := range len(name) {
		if c := name[i]; c <= ' ' || strings.IndexByte("()<>\"'%?#\\", c) >= 0 {
			fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	if text := out.String(); strings.Contains(strings.SplitN(text, "/", 2)[0], ":") {
		return "./" + text // it would be a scheme
	}
	return out.String()
}

// markdownAnchor lets a link name the heading whose anchor is nearest to the
// one that it names.
func markdownAnchor(j *job) ([]Change, error) {
	content, err := j.read(j.Gap.Path)
	if err != nil {
		return nil, err
	}
	doc := string(content)
	old, err := j.brokenLink(doc)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(destinations(doc), func(d destination) bool { return d.text == old }) {
		return nil, fmt.Errorf("%s holds no link to %s: %w", j.Gap.Path, old, ErrNothing)
	}
	name, fragment, ok := strings.Cut(old, "#")
	if !ok || fragment == "" {
		return nil, refuse("the link %s names no anchor", old)
	}
	target, text := j.Gap.Path, doc
	if file, _, _ := strings.Cut(name, "?"); file != "" {
		if decoded, err := url.PathUnescape(file); err == nil {
			file = decoded
		}
		if target = path.Join(path.Dir(j.Gap.Path), file); strings.HasPrefix(file, "/") {
			target = path.Clean(strings.TrimLeft(file, "/"))
		}
		if isDir(j.Tree, target) {
			target = path.Join(target, "README.md")
		}
		page, err := j.read(target)
		if err != nil {
			return nil, err
		}
		text = string(page)
	}
	if decoded, err := url.PathUnescape(fragment); err == nil {
		fragment = decoded
	}
	slugs := anchors(text)
	if slices.Contains(slugs, strings.ToLower(fragment)) {
		return nil, fmt.Errorf("%s has the anchor %s: %w", target, fragment, ErrNothing)
	}
	best, err := nearest(fragment, slugs)
	if err != nil {
		return nil, refuse("%s: %v", target, err)
	}
	return j.relink(doc, &Link{Old: old, New: name + "#" + escapePath(best), Target: target, By: "heading"})
}

// anchors are the slugs of the headings of a document, as GitHub makes them.
func anchors(doc string) []string {
	var all []string
	seen := make(map[string]int)
	add := func(text string) {
		base := slug(plainHeading(text))
		unique := base
		for {
			if _, taken := seen[unique]; !taken {
				break
			}
			seen[base]++
			unique = base + "-" + strconv.Itoa(seen[base])
		}
		seen[unique] = 0
		if unique != "" {
			all = append(all, unique)
		}
	}
	fence, before := "", ""
	for line := range strings.Lines(doc) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		mark := fenceMark(trimmed)
		hashes := len(trimmed) - len(strings.TrimLeft(trimmed, "#"))
		switch {
		case fence != "":
			if strings.HasPrefix(mark, fence) && mark != "" {
				fence = ""
			}
			trimmed = ""
		case mark != "":
			fence, trimmed = mark, ""
		case hashes > 0 && hashes <= 6 && !strings.HasPrefix(line, "    ") && (len(trimmed) == hashes || trimmed[hashes] == ' ' || trimmed[hashes] == '\t'):
			add(closedHeading(trimmed[hashes:]))
			trimmed = ""
		case before != "" && len(trimmed) > 0 && (strings.Trim(trimmed, "=") == "" || strings.Trim(trimmed, "-") == "") && !strings.HasPrefix(before, "- "):
			add(before)
			trimmed = ""
		}
		before = trimmed
	}
	return all
}

// closedHeading drops the closing marks of a heading.
func closedHeading(text string) string {
	text = strings.TrimSpace(text)
	if bare := strings.TrimRight(text, "#"); bare == "" || strings.HasSuffix(bare, " ") {
		return strings.TrimSpace(bare)
	}
	return text
}

// plainHeading drops the marks of inline Markdown; a link stands for its text.
func plainHeading(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		case c == '`' || c == '*' || c == '[':
		case c == '!' && strings.HasPrefix(text[i:], "!["):
		case c == ']':
			if strings.HasPrefix(text[i:], "](") {
				_, to := bounded(text, i+2, ")")
				if end := strings.IndexByte(text[to:], ')'); end >= 0 {
					i = to + end
				}
			}
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// slug is what GitHub makes of a heading.
func slug(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.Is(unicode.M, r), unicode.In(r, unicode.Nd, unicode.Nl, unicode.Pc):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(text))
}

// nearest is the one of slugs that is clearly what was meant by fragment: equal
// but for punctuation, or else at the least distance, which is small.
func nearest(fragment string, slugs []string) (string, error) {
	wanted := bare(fragment)
	for _, s := range slugs {
		if bare(s) == wanted {
			return s, nil
		}
	}
	best, least, tied := "", max(2, len([]rune(wanted))/3)+1, false
	for _, s := range slugs {
		switch d := distance(wanted, bare(s)); {
		case d < least:
			best, least, tied = s, d, false
		case d == least && best != "":
			tied = true
		}
	}
	switch {
	case best == "":
		return "", fmt.Errorf("no heading is like #%s", fragment)
	case tied:
		return "", fmt.Errorf("several headings are like #%s", fragment)
	}
	return best, nil
}

func bare(fragment string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, fragment)
}

// distance is how many runes have to be put in, left out or replaced.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i, r := range x {
		diagonal := row[0]
		row[0] = i + 1
		for j, s := range y {
			cost := diagonal
			if r != s {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(y)]
}
