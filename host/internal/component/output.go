package component

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sop-host/sop/host/internal/process"
)

// What is kept of a component's output, whatever it prints.
const (
	maxLine     = 8 << 10 // bytes of one line
	maxLogFile  = 8 << 20 // bytes of one file
	logFiles    = 4       // the one that is written, and those before it
	outputBurst = 8 << 20 // bytes that are kept at once
	outputRate  = 1 << 20 // bytes a second after that
	recentLines = 200     // for those who follow
	outputGrace = 200 * time.Millisecond
)

// output is the log of one component, through all its instances: lines with the
// time at which they came, in a file that is rotated, and the last ones in memory.
type output struct {
	path string

	mu      sync.Mutex // guards what follows
	file    *os.File
	opened  os.FileInfo // file, when it was opened
	looked  time.Time   // when it was still at path
	size    int64
	budget  float64
	at      time.Time // when budget was as it is
	dropped int64     // since the last line that was kept
	lost    int64     // since the host started
	seq     int64     // of the last line
	recent  []Line    // the last ones, oldest first
	changed chan struct{}
	closed  bool
}

// Line is one line that a component printed.
type Line struct {
	// Seq counts lines since the host started; 0 of one from before.
	Seq  int64
	At   time.Time
	Text string
}

const logSuffix = ".log"

func newOutput(dir, name string) (*output, error) {
	o := &output{path: filepath.Join(dir, name+logSuffix), budget: outputBurst, at: time.Now(), changed: make(chan struct{})}
	return o, o.openLocked()
}

// openLocked opens the file to append to. o.mu is held, or nobody else knows o.
func (o *output) openLocked() error {
	if err := os.MkdirAll(filepath.Dir(o.path), 0o700); err != nil {
		return fmt.Errorf("make component log directory: %w", err)
	}
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open component log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	o.file, o.opened, o.looked, o.size = f, info, time.Now(), info.Size()
	return nil
}

// logLook is how long lines may go to a file that was moved or removed.
const logLook = time.Second

// followLocked lets go of a file that somebody has moved or removed. o.mu is held.
func (o *output) followLocked(now time.Time) {
	if o.file == nil || now.Sub(o.looked) < logLook {
		return
	}
	o.looked = now
	if info, err := os.Stat(o.path); err != nil || !os.SameFile(info, o.opened) {
		_ = o.file.Close() // each line was written as it came
		o.file = nil
	}
}

// rotateLocked begins a new file. o.mu is held.
func (o *output) rotateLocked() {
	_ = o.file.Close() // each line was written as it came
	o.file = nil
	for n := logFiles - 1; n > 0; n-- {
		from := o.path
		if n > 1 {
			from = fmt.Sprintf("%s.%d", o.path, n-1)
		}
		_ = os.Rename(from, fmt.Sprintf("%s.%d", o.path, n)) // there may be none yet; what cannot be moved grows on
	}
	_ = o.openLocked() // where that fails nothing is written until the next line tries again
}

// add takes one line, if the budget allows.
func (o *output) add(text []byte) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.budget = min(outputBurst, o.budget+now.Sub(o.at).Seconds()*outputRate)
	o.at = now
	cost := float64(len(text) + 1)
	if o.budget < cost {
		o.dropped++
		o.lost++
		return
	}
	o.budget -= cost
	if o.dropped > 0 {
		o.keepLocked(now, fmt.Sprintf("[sop: %d lines dropped: it prints faster than is kept]", o.dropped))
		o.dropped = 0
	}
	o.keepLocked(now, process.Printable(string(text)))
}

func (o *output) keepLocked(now time.Time, text string) {
	o.seq++
	o.recent = append(o.recent, Line{Seq: o.seq, At: now, Text: text})
	if len(o.recent) > 2*recentLines {
		o.recent = slices.Clone(o.recent[len(o.recent)-recentLines:])
	}
	close(o.changed)
	o.changed = make(chan struct{})
	if o.closed {
		return
	}
	o.followLocked(now)
	if o.file == nil && o.openLocked() != nil {
		return
	}
	n, _ := o.file.WriteString(now.UTC().Format(lineTime) + " " + text + "\n") // a full disk loses lines and stops nobody
	if o.size += int64(n); o.size >= maxLogFile {
		o.rotateLocked()
	}
}

// lineTime is how the time of a line is written.
const lineTime = "2006-01-02T15:04:05.000Z"

func (o *output) counts() (lines, dropped int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seq, o.lost
}

// lastWords is the last line that says something; empty for none.
func (o *output) lastWords() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range slices.Backward(o.recent) {
		if text := strings.TrimSpace(line.Text); text != "" {
			return clip(text)
		}
	}
	return ""
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.file != nil {
		_ = o.file.Close() // each line was written as it came
		o.file = nil
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// reader reads the output of one instance.
type reader struct {
	file    *os.File
	matched chan struct{} // closed when a line has matched the log probe's pattern
	done    chan struct{}
	once    sync.Once
}

// read begins to read f, which it closes in any case.
func (o *output) read(f *os.File, readiness Readiness) (*reader, error) {
	var pattern *regexp.Regexp
	if readiness.Kind == ProbeLog {
		var err error
		if pattern, err = regexp.Compile(readiness.Target); err != nil {
			return nil, errors.Join(fmt.Errorf("pattern of the log probe: %w", err), f.Close())
		}
	}
	r := &reader{file: f, matched: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		process.Lines(f, maxLine, func(text []byte) {
			if pattern != nil && pattern.Match(text) {
				pattern = nil
				close(r.matched)
			}
			o.add(text)
		})
	}()
	return r, nil
}

// finish reads what is left, for no longer than a moment: a descendant that has
// detached itself may hold the pipe for ever.
func (r *reader) finish() {
	r.once.Do(func() {
		if err := r.file.SetReadDeadline(time.Now().Add(outputGrace)); err != nil {
			_ = r.file.Close() // ends the reading all the same
		}
		<-r.done
		_ = r.file.Close() // read to its end
	})
}
