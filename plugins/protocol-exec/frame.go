package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// errTooLong says that a message is longer than may be. Of lines, the next can be
// read; a header that promises too much is the end.
var errTooLong = errors.New("a message is too long")

// framing is how messages follow each other on a stream.
type framing interface {
	// read returns the next message. After errTooLong it may be called again.
	read(r *bufio.Reader, limit int) ([]byte, error)
	// frame makes a message ready to be written.
	frame(message []byte) []byte
}

func framingOf(name string) framing {
	if name == framingLength {
		return byLength{}
	}
	return byLine{}
}

// byLine has one message on each line. Empty lines are none.
type byLine struct{}

func (byLine) frame(message []byte) []byte { return append(message, '\n') }

func (byLine) read(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit+1 {
			if skipErr := skipLine(r, part, err); skipErr != nil {
				return nil, skipErr
			}
			return nil, errTooLong
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return nil, err
		case len(bytes.TrimSpace(line)) > 0:
			return bytes.TrimSpace(line), nil
		default:
			line = line[:0]
		}
	}
}

// skipLine reads to the end of a line of which part was read with err.
func skipLine(r *bufio.Reader, part []byte, err error) error {
	for errors.Is(err, bufio.ErrBufferFull) {
		part, err = r.ReadSlice('\n')
	}
	if err != nil && len(part) == 0 {
		return err
	}
	return nil
}

// byLength has the header Content-Length before each message, as the Language
// Server Protocol does.
type byLength struct{}

func (byLength) frame(message []byte) []byte {
	return append(fmt.Appendf(nil, "Content-Length: %d\r\n\r\n", len(message)), message...)
}

const maxHeaderLine = 1024

func (byLength) read(r *bufio.Reader, limit int) ([]byte, error) {
	length := -1
	for {
		line, err := headerLine(r)
		if err != nil {
			return nil, err
		}
		if line == "" {
			if length < 0 {
				continue // between messages
			}
			break
		}
		name, value, found := strings.Cut(line, ":")
		if !found {
			return nil, fmt.Errorf("%q is no header", clip(line))
		}
		if !strings.EqualFold(name, "Content-Length") {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is no length", clip(value))
		}
		length = n
	}
	if length > limit {
		return nil, fmt.Errorf("%w: %d bytes", errTooLong, length)
	}
	message := make([]byte, length)
	_, err := io.ReadFull(r, message)
	return message, err
}

func headerLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull), err == nil && len(line) > maxHeaderLine:
		return "", errors.New("a header is too long")
	case err != nil:
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func clip(s string) string {
	if len(s) > 80 {
		s = s[:80]
	}
	return strings.ToValidUTF8(s, "?")
}
