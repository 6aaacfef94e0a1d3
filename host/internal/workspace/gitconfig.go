package workspace

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// gitConfig is what of git's configuration decides which files git sees.
type gitConfig struct {
	excludesFile    string // as written; relative to the top of the work tree
	excludesFileSet bool
	ignoreCase      bool
	sha256          bool // extensions.objectFormat
}

const maxIncludes = 10 // as git

var errIncludeDepth = errors.New("configuration files include each other too deeply")

// load reads file, and what it includes, over c. A file that is not there changes nothing.
func (c *gitConfig) load(file, home string) error {
	return c.loadDepth(file, home, 0)
}

func (c *gitConfig) loadDepth(file, home string, depth int) error {
	if depth > maxIncludes {
		return fmt.Errorf("%s: %w", file, errIncludeDepth)
	}
	data, err := readRegular(file)
	if err != nil {
		return ignoreMissing(err)
	}
	var nested error
	err = parseConfig(data, func(section, key, value string) {
		switch section + "." + key {
		case "core.excludesfile":
			c.excludesFile, c.excludesFileSet = expandHome(value, home), true
		case "core.ignorecase":
			c.ignoreCase = configBool(value)
		case "extensions.objectformat":
			c.sha256 = value == "sha256"
		case "include.path":
			included := expandHome(value, home)
			if !filepath.IsAbs(included) {
				included = filepath.Join(filepath.Dir(file), included)
			}
			nested = errors.Join(nested, c.loadDepth(included, home, depth+1))
		}
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return errors.Join(err, nested)
}

func expandHome(path, home string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok && home != "" {
		return filepath.Join(home, rest)
	}
	return path
}

func configBool(value string) bool {
	switch strings.ToLower(value) {
	case "", "false", "no", "off", "0":
		return false
	default:
		return true
	}
}

// parseConfig calls visit for every variable in the order of the file, with section and key lowered; a subsection
// becomes part of the section, "remote.origin". A key without "=" has the value "true". What precedes an error has
// been visited.
func parseConfig(data []byte, visit func(section, key, value string)) error {
	p := configParser{rest: strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n"), line: 1}
	section := ""
	for {
		switch c := p.skipBlank(); {
		case c == 0:
			return nil
		case c == '[':
			name, err := p.section()
			if err != nil {
				return err
			}
			section = name
		case isAlpha(c):
			key, value, err := p.variable()
			if err != nil {
				return err
			}
			visit(section, key, value)
		default:
			return p.errorf("unexpected %q", c)
		}
	}
}

type configParser struct {
	rest string
	line int
}

func (p *configParser) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: "+format, append([]any{p.line}, args...)...)
}

// next takes one byte; 0 at the end.
func (p *configParser) next() byte {
	if p.rest == "" {
		return 0
	}
	c := p.rest[0]
	p.rest = p.rest[1:]
	if c == '\n' {
		p.line++
	}
	return c
}

func (p *configParser) peek() byte {
	if p.rest == "" {
		return 0
	}
	return p.rest[0]
}

// skipBlank passes over space and comments and returns the byte that follows without taking it; 0 at the end.
func (p *configParser) skipBlank() byte {
	for {
		switch c := p.peek(); c {
		case ' ', '\t', '\n', '\r':
			p.next()
		case '#', ';':
			p.skipLine()
		default:
			return c
		}
	}
}

func (p *configParser) skipLine() {
	for c := p.next(); c != '\n' && c != 0; {
		c = p.next()
	}
}

// section takes a header: [name], [name.sub] or [name "sub"].
func (p *configParser) section() (string, error) {
	p.next()
	var name strings.Builder
	for {
		switch c := p.next(); {
		case c == ']':
			return name.String(), nil
		case c == ' ' || c == '\t':
			return p.subsection(name.String())
		case isAlpha(c) || isDigit(c) || c == '-' || c == '.':
			name.WriteByte(lowerByte(c))
		default:
			return "", p.errorf("bad section header")
		}
	}
}

func (p *configParser) subsection(section string) (string, error) {
	for p.peek() == ' ' || p.peek() == '\t' {
		p.next()
	}
	if p.next() != '"' {
		return "", p.errorf("bad section header")
	}
	var sub strings.Builder
	for {
		c := p.next()
		switch c {
		case '"':
			if p.next() != ']' {
				return "", p.errorf("bad section header")
			}
			return section + "." + sub.String(), nil
		case '\\':
			c = p.next()
		}
		if c == 0 || c == '\n' {
			return "", p.errorf("unclosed section header")
		}
		sub.WriteByte(c)
	}
}

// variable takes "key", "key = value" and what belongs to it on continued lines.
func (p *configParser) variable() (key, value string, err error) {
	var k strings.Builder
	for c := p.peek(); isAlpha(c) || isDigit(c) || c == '-'; c = p.peek() {
		k.WriteByte(lowerByte(p.next()))
	}
	for p.peek() == ' ' || p.peek() == '\t' {
		p.next()
	}
	switch p.peek() {
	case 0, '\n':
		return k.String(), "true", nil
	case '=':
		p.next()
		value, err = p.value()
		return k.String(), value, err
	default:
		return "", "", p.errorf("bad variable %q", k.String())
	}
}

// value takes the rest of the line: quotes group, a backslash escapes or continues the line, and outside quotes a
// comment ends the value and space around it is dropped.
func (p *configParser) value() (string, error) {
	var out strings.Builder
	quoted := false
	keep := 0 // length of out without the space that may turn out to be trailing
	for {
		c := p.next()
		switch {
		case c == 0 || c == '\n':
			if quoted {
				return "", p.errorf("unclosed quote")
			}
			return out.String()[:keep], nil
		case !quoted && (c == '#' || c == ';'):
			p.skipLine()
			return out.String()[:keep], nil
		case !quoted && (c == ' ' || c == '\t'):
			if keep > 0 {
				out.WriteByte(c)
			}
			continue
		case c == '"':
			quoted = !quoted
		case c == '\\':
			e := p.next()
			switch e {
			case '\n':
				keep = out.Len()
				continue
			case 'n':
				e = '\n'
			case 't':
				e = '\t'
			case 'b':
				e = '\b'
			case '"', '\\':
			default:
				return "", p.errorf("bad escape in a value")
			}
			out.WriteByte(e)
		default:
			out.WriteByte(c)
		}
		keep = out.Len()
	}
}
