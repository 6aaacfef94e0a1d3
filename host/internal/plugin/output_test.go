package plugin

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func newTestSink(out *bytes.Buffer) *logSink {
	s := newLogSink(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: out, DisableTime: true}))
	now := time.Unix(0, 0)
	s.now = func() time.Time { return now }
	return s
}

func TestLogLines(t *testing.T) {
	var out bytes.Buffer
	s := newTestSink(&out)
	s.consume(strings.NewReader(strings.Join([]string{
		`{"@level":"warn","@message":"structured","key":7}`,
		`{"@message":1}`,
		`{"@level":3,"@message":"odd level"}`,
		"[ERROR] prefixed",
		"plain \x1b[31mred\x00",
		"\xff\xfe",
		"   ",
		strings.Repeat("x", 100<<10),
		"last, without newline",
	}, "\n")))
	got := out.String()
	for _, want := range []string{
		"[WARN]  structured: key=7\n", "[INFO]  {\"@message\":1}\n", "[INFO]  odd level\n", "[ERROR] prefixed\n",
		"[INFO]  plain \uFFFD[31mred\uFFFD\n", "[INFO]  \uFFFD\uFFFD\n", "[INFO]  last, without newline\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q in:\n%.2000s", want, got)
		}
	}
	if len(got) > 10<<10 {
		t.Errorf("a long line was logged with %d bytes", len(got))
	}
}

func TestLogFloodIsBounded(t *testing.T) {
	var out bytes.Buffer
	s := newTestSink(&out)
	for i := range 10 * logLinesBurst {
		fmt.Fprintf(s.writer(), "line %d\n", i)
	}
	if n := strings.Count(out.String(), "\n"); n > logLinesBurst+1 {
		t.Errorf("%d lines were logged", n)
	}
	if s.droppedLines() != 9*logLinesBurst {
		t.Errorf("%d dropped", s.droppedLines())
	}
	s.now = func() time.Time { return time.Unix(10, 0) }
	fmt.Fprintln(s.writer(), "after a while")
	if !strings.Contains(out.String(), fmt.Sprintf("lines=%d", 9*logLinesBurst-1)) || !strings.Contains(out.String(), "after a while") {
		t.Error("what was dropped is not said")
	}
}

// Chatter that is not written, or too much, keeps no error from the log, and what
// is dropped is said once a second.
func TestErrorsInAFlood(t *testing.T) {
	for name, chatter := range map[string]string{"not written": "debug", "too much": "info"} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := newTestSink(&out)
			s.logger.SetLevel(hclog.Info)
			for range 10 * logLinesBurst {
				fmt.Fprintf(s.writer(), `{"@level":%q,"@message":"chatter"}`+"\n", chatter)
			}
			fmt.Fprintln(s.writer(), `{"@level":"error","@message":"it broke"}`)
			if !strings.Contains(out.String(), "[ERROR] it broke") {
				t.Error("the error is lost")
			}
			if n := strings.Count(out.String(), "lines dropped"); n > 1 || (n == 0) != (s.droppedLines() == 0) {
				t.Errorf("%d dropped, said %d times", s.droppedLines(), n)
			}
			if chatter == "debug" && s.droppedLines() != 0 {
				t.Errorf("%d lines that are not written count as dropped", s.droppedLines())
			}
		})
	}
}

// What the runtime prints when it ends a program is logged as an error.
func TestCrashIsLogged(t *testing.T) {
	for _, first := range []string{"panic: it broke", "fatal error: all goroutines are asleep", "SIGSEGV: segmentation violation", "unexpected fault address 0x1"} {
		var out bytes.Buffer
		s := newTestSink(&out)
		s.logger.SetLevel(hclog.Error)
		s.consume(strings.NewReader("before\n" + first + "\n\ngoroutine 7 [running]:\nmain.work()\n" + strings.Repeat("frame\n", 2*maxTrace)))
		for _, want := range []string{"[ERROR] " + first, "[ERROR] goroutine 7", "[ERROR] main.work()"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: missing %q", first, want)
			}
		}
		if n := strings.Count(out.String(), "\n"); n != maxTrace {
			t.Errorf("%s: %d lines of the crash were logged", first, n)
		}
	}
}

func TestLastWords(t *testing.T) {
	var out bytes.Buffer
	tests := map[string]struct {
		lines []string
		want  string
	}{
		"nothing":      {nil, ""},
		"chatter":      {[]string{"the cause", `{"@level":"debug","@message":"plugin address"}`}, "the cause"},
		"a warning":    {[]string{"before", `{"@level":"warn","@message":"about to end"}`}, "about to end"},
		"a signal":     {[]string{"SIGSEGV: segmentation violation", "PC=0x1", "rax 0x0", "gs 0x0"}, "SIGSEGV: segmentation violation"},
		"a long panic": {append([]string{"panic: it broke"}, strings.Split(strings.Repeat("frame\n", 100), "\n")...), "panic: it broke"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newTestSink(&out)
			s.consume(strings.NewReader(strings.Join(tt.lines, "\n")))
			if got := s.lastWords(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
