package plugin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
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
	gravesBurst   = 300     // lines that warn, or tell of an error, beyond that
	gravesRate    = 20      // likewise, a second
	maxTrace      = 200     // lines after the beginning of a crash that belong to it
	tailLines     = 20      // last lines kept for the cause of a failure
	maxTailLine   = 1 << 10 // bytes of each
)

// noticeEvery is how often at most it is said that lines were dropped.
const noticeEvery = time.Second

// logSink turns the lines that a plugin prints into records of the host's log:
// bounded in length and rate, whatever the plugin prints.
type logSink struct {
	logger hclog.Logger
	now    func() time.Time

	mu       sync.Mutex
	lines    allowance // for all lines
	graves   allowance // beyond that, for those that warn or tell of an error
	dropped  int64     // since that was said
	noticed  time.Time // when it was said
	total    int64     // dropped since the start
	tail     [][]byte  // the last lines, oldest first
	panicked []byte    // where a crash began
	trace    int       // lines that may yet belong to it
}

// allowance is how many lines may be logged: burst at once, and rate a second.
type allowance struct {
	burst, rate float64
	left        float64
	last        time.Time
}

// take takes one line, if there is one left.
func (a *allowance) take(now time.Time) bool {
	a.left = min(a.burst, a.left+now.Sub(a.last).Seconds()*a.rate)
	a.last = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

func newLogSink(logger hclog.Logger) *logSink {
	return &logSink{
		logger: logger, now: time.Now,
		lines:  allowance{burst: logLinesBurst, rate: logLinesRate, left: logLinesBurst},
		graves: allowance{burst: gravesBurst, rate: gravesRate, left: gravesBurst},
	}
}

// consume reads r to its end.
func (s *logSink) consume(r io.Reader) {
	process.Lines(r, maxLogLine, s.line)
	s.notice(0)
}

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

// line logs one line if it is worth that and the allowance is not used up.
func (s *logSink) line(raw []byte) {
	raw = bytes.TrimRight(raw[:min(len(raw), maxLogLine)], "\r\n")
	if len(bytes.TrimSpace(raw)) == 0 {
		return
	}
	level, ok := s.admit(raw)
	s.notice(noticeEvery)
	if ok {
		l := parseLine(printable(string(raw)))
		s.logger.Log(max(l.level, level), l.text, l.fields...)
	}
}

// notice says how many lines were dropped since it was said, unless that is less
// than a time ago.
func (s *logSink) notice(every time.Duration) {
	s.mu.Lock()
	now, dropped := s.now(), s.dropped
	if dropped == 0 || now.Sub(s.noticed) < every {
		s.mu.Unlock()
		return
	}
	s.dropped, s.noticed = 0, now
	s.mu.Unlock()
	s.logger.Warn("plugin logs faster than the host writes: lines dropped", "lines", dropped)
}

// printable replaces what is no UTF-8 and what a terminal would act on.
func printable(text string) string { return process.Printable(text) }

// admit says whether the line is to be logged, and at which level at least: one that
// belongs to a crash is an error. What the log's level leaves out uses nothing up.
// Whatever comes of a line, it costs no more than a look at its beginning: a flood is
// to cost the host little.
func (s *logSink) admit(raw []byte) (hclog.Level, bool) {
	level, stated := statedLevel(raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(raw[:min(len(raw), maxTailLine)])
	if !stated && s.trace > 0 {
		s.trace--
		level = hclog.Error
	}
	if level < s.logger.GetLevel() {
		return level, false
	}
	now := s.now()
	if s.lines.take(now) || level >= hclog.Warn && s.graves.take(now) {
		return level, true
	}
	s.dropped++
	s.total++
	return level, false
}

// statedLevel is the level that parseLine finds, without taking the line apart.
func statedLevel(raw []byte) (level hclog.Level, stated bool) {
	var word []byte
	switch raw[0] {
	case '{':
		_, rest, found := bytes.Cut(raw, []byte(`"@level":"`))
		if !found {
			return hclog.Info, false
		}
		word, _, _ = bytes.Cut(rest, []byte(`"`))
	case '[':
		word, _, _ = bytes.Cut(raw[1:min(len(raw), maxLevel)], []byte("]"))
	default:
		return hclog.Info, false
	}
	if l := hclog.LevelFromString(string(word)); l != hclog.NoLevel && l != hclog.Off {
		return l, true
	}
	return hclog.Info, false
}

// maxLevel is more than the name of any level takes, with its brackets.
const maxLevel = 16

// remember keeps the line for lastWords; s.mu is held.
func (s *logSink) remember(line []byte) {
	if strings.IndexByte("pfSu", line[0]) >= 0 && crash.Match(line) {
		s.trace = maxTrace
		if len(s.panicked) == 0 {
			s.panicked = bytes.Clone(line)
		}
	}
	if len(s.tail) < tailLines {
		s.tail = append(s.tail, bytes.Clone(line))
		return
	}
	oldest := s.tail[0]
	copy(s.tail, s.tail[1:])
	s.tail[tailLines-1] = append(oldest[:0], line...) // reused: a flood makes no garbage
}

// crash is how the Go runtime begins to say that it ends the program; remember knows
// its first letters.
var crash = regexp.MustCompile(`^(panic|fatal error|SIG[A-Z]+): |^unexpected fault address `)

// crashWords returns the line in which a crash began; empty: there was none.
func (s *logSink) crashWords() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clip(printable(string(s.panicked)))
}

// lastWords returns the line that best says why the plugin failed: where a crash
// began, or the last line that is no chatter.
func (s *logSink) lastWords() string {
	if words := s.crashWords(); words != "" {
		return words
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range slices.Backward(s.tail) {
		if l := parseLine(printable(string(line))); !l.stated || l.level >= hclog.Warn {
			return clip(l.text)
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

// logLine is a line as it is logged.
type logLine struct {
	level  hclog.Level
	stated bool // the line states its level
	text   string
	fields []any
}

// parseLine takes from a line the level that it states: hclog's JSON, or the
// "[LEVEL]" prefix. Anything else, and malformed JSON, is logged as it is.
func parseLine(text string) logLine {
	if strings.HasPrefix(text, "{") {
		var rec map[string]any
		if json.Unmarshal([]byte(text), &rec) == nil {
			if msg, ok := rec["@message"].(string); ok {
				level, _ := rec["@level"].(string)
				return logLine{parseLevel(level), true, msg, fields(rec)}
			}
		}
	}
	if end := strings.IndexByte(text, ']'); strings.HasPrefix(text, "[") && end > 0 {
		if l := hclog.LevelFromString(text[1:end]); l != hclog.NoLevel && l != hclog.Off {
			return logLine{l, true, strings.TrimSpace(text[end+1:]), nil}
		}
	}
	return logLine{level: hclog.Info, text: text}
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
