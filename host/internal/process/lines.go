package process

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// Lines reads r to its end and hands over each line without its end, cut to max
// bytes, whatever is printed: there is no more memory to a line than that. The
// slice is good until the next. What is read last need not end in a newline.
// It never fails: what a process prints is not the host's problem.
func Lines(r io.Reader, limit int, line func(text []byte)) {
	in := bufio.NewReaderSize(r, limit)
	for {
		text, err := in.ReadSlice('\n')
		if len(text) > 0 {
			line(bytes.TrimRight(text, "\r\n"))
		}
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a long line
			_, err = in.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

// Printable replaces what is no UTF-8 and what a terminal would act on.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return utf8.RuneError
		}
		return r
	}, text)
}
