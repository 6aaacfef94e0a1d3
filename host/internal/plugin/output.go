package plugin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/process"
)

const (
	maxLogLine    = 8 << 10 // bytes of one line that are kept
	maxLogFields  = 32
	logLinesBurst = 500     // lines that are logged at once
	logLinesRate  = 200     // lines a second after that
	tailLines     = 20      // last lines kept for the cause of a failure
	maxTailLine   = 1 << 10 // bytes of each
)

// logSink turns the lines that a plugin prints into records of the host's log:
// bounded in length and rate, whatever the plugin prints.
type logSink struct {
	logger hclog.Logger
	now    func() time.Time

	mu       sync.Mutex
	budget   float64
	last     time.Time
	dropped  int64
	total    int64    // dropped since the start
	tail     [][]byte // the last lines, oldest first
	panicked []byte   // where a panic or fatal error began
}

func newLogSink(logger hclog.Logger) *logSink {
	return &logSink{logger: logger, now: time.Now, budget: logLinesBurst}
}

// consume reads r to its end.
func (s *logSink) consume(r io.Reader) { process.Lines(r, maxLogLine, s.line) }

// writer returns an io.Writer that takes lines in pieces.
func (s *logSink) writer() io.Writer { return &lineWriter{sink: s} }

type lineWriter struct {
	sink *logSink
	buf  []byte
	over bool // the rest of the line is dropped
}

// Write implements [io.Writer]; it never fails.
func (w *lineWriter) Write(p []byte) (int, error) {
	for _, c := range p {
		switch {
		case c == '\n':
			w.sink.line(w.buf)
			w.buf, w.over = w.buf[:0], false
		case len(w.buf) < maxLogLine && !w.over:
			w.buf = append(w.buf, c)
		default:
			w.over = true
		}
	}
	return len(p), nil
}

// line logs one line if the budget allows.
func (s *logSink) line(raw []byte) {
	raw = bytes.TrimRight(raw[:min(len(raw), maxLogLine)], "\r\n")
	if len(bytes.TrimSpace(raw)) == 0 {
		return
	}
	ok, dropped := s.admit(raw)
	if !ok {
		return
	}
	text := printable(string(raw))
	if dropped > 0 {
		s.logger.Warn("plugin logs faster than the host writes: lines dropped", "lines", dropped)
	}
	logLine(s.logger, text)
}

// printable replaces what is no UTF-8 and what a terminal would act on.
func printable(text string) string { return process.Printable(text) }

// admit takes one line from the budget. It returns how many were dropped before it.
func (s *logSink) admit(raw []byte) (ok bool, dropped int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(raw[:min(len(raw), maxTailLine)])
	now := s.now()
	s.budget = min(logLinesBurst, s.budget+now.Sub(s.last).Seconds()*logLinesRate)
	s.last = now
	if s.budget < 1 {
		s.dropped++
		s.total++
		return false, 0
	}
	s.budget--
	dropped, s.dropped = s.dropped, 0
	return true, dropped
}

// remember keeps the line for lastWords; s.mu is held.
func (s *logSink) remember(line []byte) {
	if len(s.panicked) == 0 && (bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: "))) {
		s.panicked = bytes.Clone(line)
	}
	if len(s.tail) < tailLines {
		s.tail = append(s.tail, bytes.Clone(line))
		return
	}
	oldest := s.tail[0]
	copy(s.tail, s.tail[1:])
	s.tail[tailLines-1] = append(oldest[:0], line...) // reused: a flood makes no garbage
}

// lastWords returns the line that best says why the plugin failed: where a
// panic or a fatal error began, or the last line that is no chatter.
func (s *logSink) lastWords() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.panicked) > 0 {
		return clip(printable(string(s.panicked)))
	}
	for _, line := range slices.Backward(s.tail) {
		if text, level := message(line); level == hclog.NoLevel || level >= hclog.Warn {
			return clip(printable(text))
		}
	}
	return ""
}

// droppedLines is how many lines were not logged.
func (s *logSink) droppedLines() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

func clip(s string) string {
	const limit = 300
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// message returns the text of a line, and its level where it states one.
func message(line []byte) (string, hclog.Level) {
	var rec map[string]any
	if json.Unmarshal(line, &rec) == nil {
		if m, ok := rec["@message"].(string); ok {
			level, _ := rec["@level"].(string)
			return m, hclog.LevelFromString(level)
		}
	}
	return string(line), hclog.NoLevel
}

// logLine writes one line with the level that it states: hclog's JSON, or the
// "[LEVEL]" prefix. Anything else, and malformed JSON, is logged as it is.
func logLine(logger hclog.Logger, text string) {
	if strings.HasPrefix(text, "{") {
		var rec map[string]any
		if json.Unmarshal([]byte(text), &rec) == nil {
			if msg, ok := rec["@message"].(string); ok {
				level, _ := rec["@level"].(string)
				logger.Log(parseLevel(level), msg, fields(rec)...)
				return
			}
		}
	}
	level := hclog.Debug
	if end := strings.IndexByte(text, ']'); strings.HasPrefix(text, "[") && end > 0 {
		if l := hclog.LevelFromString(text[1:end]); l != hclog.NoLevel {
			logger.Log(l, strings.TrimSpace(text[end+1:]))
			return
		}
	}
	if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
		level = hclog.Error
	}
	logger.Log(level, text)
}

func parseLevel(s string) hclog.Level {
	if l := hclog.LevelFromString(s); l != hclog.NoLevel && l != hclog.Off {
		return l
	}
	return hclog.Info
}

// fields returns the record's own keys and values, a bounded number of them.
func fields(rec map[string]any) []any {
	var out []any
	for k, v := range rec {
		if strings.HasPrefix(k, "@") || len(out) >= 2*maxLogFields {
			continue
		}
		out = append(out, k, v)
	}
	return out
}

// handshakeLimit bounds the handshake line; a P-521 certificate takes about 900 bytes.
const handshakeLimit = 16 << 10

// readHandshake reads the first line of r. A longer line than any handshake is
// cut off there; the error is r's.
func readHandshake(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	return printable(strings.TrimRight(string(line), "\r\n")), err
}
