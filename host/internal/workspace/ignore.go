package workspace

import (
	"bytes"
	"strings"
)

// verdict is what an ignore list says of a path.
type verdict uint8

const (
	undecided verdict = iota
	ignored
	kept // a "!" pattern matched
)

// rule is one line of an ignore file.
type rule struct {
	negated bool
	dirOnly bool
	byPath  bool   // matched against the path below the list's directory; otherwise against the last name
	prefix  string // what stands before the first wildcard
	suffix  bool   // prefix is empty and the pattern is a star followed by tail
	tail    string
	glob    glob // what follows prefix; nil for a rule without wildcards
	literal bool
}

// matches decides for one name or path, whichever r.byPath asks for.
func (r *rule) matches(s string) bool {
	switch {
	case r.literal:
		return s == r.prefix
	case r.suffix:
		return strings.HasSuffix(s, r.tail)
	default:
		rest, ok := strings.CutPrefix(s, r.prefix)
		return ok && r.glob.match(rest)
	}
}

// parseRule compiles one line of an ignore file, without its line end; ok is false for lines that match nothing.
func parseRule(line string, fold bool) (r rule, ok bool) {
	if i := strings.IndexByte(line, 0); i >= 0 {
		line = line[:i]
	}
	if strings.HasPrefix(line, "#") {
		return rule{}, false
	}
	line = trimTrailingSpaces(line)
	line, r.negated = strings.CutPrefix(line, "!")
	line, r.dirOnly = strings.CutSuffix(line, "/")
	r.byPath = strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return rule{}, false
	}
	wild := strings.IndexAny(line, `*?[\`)
	if wild < 0 {
		r.literal = true
		r.prefix = foldIf(line, fold)
		return r, true
	}
	r.prefix = foldIf(line[:wild], fold)
	if tail := line[1:]; !r.byPath && line[0] == '*' && !strings.ContainsAny(tail, `*?[\`) {
		r.suffix, r.tail = true, foldIf(tail, fold)
		return r, true
	}
	// git compares what precedes the first wildcard literally and starts the glob behind it, so that "a**/b" is a
	// deep star; compiling only the rest keeps that.
	r.glob, ok = compileGlob(line[wild:], fold)
	return r, ok
}

func foldIf(s string, fold bool) string {
	if fold {
		return lowerASCII(s)
	}
	return s
}

// trimTrailingSpaces drops spaces (not tabs) at the end unless a backslash escapes them.
func trimTrailingSpaces(s string) string {
	end := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ' ':
			continue
		case '\\':
			i++
			if i == len(s) {
				return s
			}
		}
		end = i + 1
	}
	return s[:end]
}

// ruleList is a compiled ignore file. Of the rules that match a path the last one decides; rules without wildcards and
// "*.ext" rules are looked up, the others are tried from the end for as long as they could still come later.
type ruleList struct {
	rules []rule
	names map[string]last // last name, for literal rules
	exts  map[string]last // extension with its dot, for "*.ext" rules
	paths map[string]last // path below the list's directory, for literal rules with a slash
	tried []int           // indices of the remaining rules, highest first
	fold  bool
}

// last holds, one-based, the last rule that applies to a file and to a directory.
type last struct{ file, dir int }

// parseRules compiles an ignore file. It returns nil when the file holds no rule.
func parseRules(data []byte, fold bool) *ruleList {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	l := &ruleList{fold: fold}
	for len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		data = rest
		line = bytes.TrimSuffix(line, []byte("\r"))
		if r, ok := parseRule(string(line), fold); ok {
			l.rules = append(l.rules, r)
		}
	}
	if len(l.rules) == 0 {
		return nil
	}
	l.index()
	return l
}

func (l *ruleList) index() {
	for i := range l.rules {
		r := &l.rules[i]
		switch {
		case r.literal && r.byPath:
			l.paths = remember(l.paths, r.prefix, i, r.dirOnly)
		case r.literal:
			l.names = remember(l.names, r.prefix, i, r.dirOnly)
		case r.suffix && strings.LastIndexByte(r.tail, '.') == 0:
			l.exts = remember(l.exts, r.tail, i, r.dirOnly)
		default:
			l.tried = append([]int{i}, l.tried...)
		}
	}
}

func remember(m map[string]last, key string, i int, dirOnly bool) map[string]last {
	if m == nil {
		m = make(map[string]last)
	}
	e := m[key]
	e.dir = i + 1
	if !dirOnly {
		e.file = i + 1
	}
	m[key] = e
	return m
}

func (e last) of(isDir bool) int {
	if isDir {
		return e.dir
	}
	return e.file
}

// match decides for path, which is relative to the directory of the list and whose last name is name.
func (l *ruleList) match(path, name string, isDir bool) verdict {
	if l.fold {
		path, name = lowerASCII(path), lowerASCII(name)
	}
	best := 0
	if l.names != nil {
		best = l.names[name].of(isDir)
	}
	if l.exts != nil {
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			best = max(best, l.exts[name[dot:]].of(isDir))
		}
	}
	if l.paths != nil {
		best = max(best, l.paths[path].of(isDir))
	}
	for _, i := range l.tried {
		if i < best {
			break
		}
		r := &l.rules[i]
		if r.dirOnly && !isDir {
			continue
		}
		s := name
		if r.byPath {
			s = path
		}
		if r.matches(s) {
			best = i + 1
			break
		}
	}
	switch {
	case best == 0:
		return undecided
	case l.rules[best-1].negated:
		return kept
	default:
		return ignored
	}
}

// scope is a list that holds below one directory, in front of those that hold above it. A nil scope decides nothing.
type scope struct {
	parent *scope
	rules  *ruleList
	base   int // length of the directory's path, with its slash
}

// below puts a list in front of s; a nil list leaves s as it is.
func (s *scope) below(rules *ruleList, base int) *scope {
	if rules == nil {
		return s
	}
	return &scope{parent: s, rules: rules, base: base}
}

// match decides for path, whose last name starts at nameAt, asking the nearest list first.
func (s *scope) match(path string, nameAt int, isDir bool) verdict {
	for ; s != nil; s = s.parent {
		if v := s.rules.match(path[s.base:], path[nameAt:], isDir); v != undecided {
			return v
		}
	}
	return undecided
}
