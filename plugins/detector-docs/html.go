package main

import (
	"bytes"
	"html"
	"strings"
)

// tag is an opening tag of raw HTML.
type tag struct {
	name  string // lower case
	attrs map[string]string
	at    int // offset of '<'
}

// tags calls visit for every opening tag in text. Comments, declarations and
// what scripts and styles hold are passed over; what is malformed is text.
func tags(text []byte, visit func(tag)) {
	for i := 0; i < len(text); {
		n := bytes.IndexByte(text[i:], '<')
		if n < 0 {
			return
		}
		i += n
		if bytes.HasPrefix(text[i:], []byte("<!--")) {
			if i = after(text, i+4, "-->"); i < 0 {
				return
			}
			continue
		}
		t, end := openTag(text, i)
		if end < 0 {
			i++
			continue
		}
		visit(t)
		i = end
		if t.name == "script" || t.name == "style" {
			if i = after(text, i, "</"+t.name); i < 0 {
				return
			}
		}
	}
}

// openTag reads the tag at text[at]; end is -1 when there is none.
func openTag(text []byte, at int) (t tag, end int) {
	i := at + 1
	for i < len(text) && isTagName(text[i], i == at+1) {
		i++
	}
	if i == at+1 {
		return t, -1
	}
	t = tag{name: strings.ToLower(string(text[at+1 : i])), attrs: make(map[string]string), at: at}
	for {
		for i < len(text) && (isSpace(text[i]) || text[i] == '/') {
			i++
		}
		switch {
		case i >= len(text):
			return t, -1
		case text[i] == '>':
			return t, i + 1
		}
		var name, value string
		if name, value, i = attribute(text, i); i < 0 {
			return t, -1
		}
		if _, ok := t.attrs[name]; !ok {
			t.attrs[name] = value
		}
	}
}

// attribute reads one attribute; end is -1 when its value does not close.
func attribute(text []byte, i int) (name, value string, end int) {
	from := i
	for i++; i < len(text) && !isSpace(text[i]) && text[i] != '=' && text[i] != '>' && text[i] != '/'; {
		i++
	}
	name = strings.ToLower(string(text[from:i]))
	next := i
	for next < len(text) && isSpace(text[next]) {
		next++
	}
	if next >= len(text) || text[next] != '=' {
		return name, "", i
	}
	for i = next + 1; i < len(text) && isSpace(text[i]); {
		i++
	}
	if i >= len(text) {
		return name, "", -1
	}
	if q := text[i]; q == '"' || q == '\'' {
		n := bytes.IndexByte(text[i+1:], q)
		if n < 0 {
			return name, "", -1
		}
		return name, html.UnescapeString(string(text[i+1 : i+1+n])), i + n + 2
	}
	for from = i; i < len(text) && !isSpace(text[i]) && text[i] != '>'; {
		i++
	}
	return name, html.UnescapeString(string(text[from:i])), i
}

func isTagName(c byte, first bool) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || !first && (c >= '0' && c <= '9' || c == '-' || c == ':' || c == '.')
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' }
