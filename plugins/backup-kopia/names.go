package main

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// mark begins a byte that kopia cannot name: kopia keeps names as UTF-8 text and
// merges what is none.
const mark = "\uFFFD"

// escape makes text of a name, different for different names. A name that is
// text without the mark stays as it is; each byte that is no text, or belongs to
// a mark, becomes the mark and two hexadecimal digits.
func escape(name string) string {
	if utf8.ValidString(name) && !strings.Contains(name, mark) {
		return name
	}
	var out strings.Builder
	for len(name) > 0 {
		r, size := utf8.DecodeRuneInString(name)
		if r != utf8.RuneError {
			out.WriteString(name[:size])
		} else {
			for _, c := range []byte(name[:size]) {
				out.WriteString(mark + hex.EncodeToString([]byte{c}))
			}
		}
		name = name[size:]
	}
	return out.String()
}

// unescape undoes escape. What the kopia client has named otherwise stays.
func unescape(text string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, mark)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if len(after) < 2 {
			out.WriteString(mark)
			text = after
			continue
		}
		c, err := hex.DecodeString(after[:2])
		if err != nil {
			out.WriteString(mark)
			text = after
			continue
		}
		out.Write(c)
		text = after[2:]
	}
}
