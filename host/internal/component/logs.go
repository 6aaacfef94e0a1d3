package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// MostLines is how many lines [Supervisor.Logs] returns at most.
const MostLines = 10_000

// maxTail bounds what is read from the end of a log.
const maxTail = 4 << 20

// Logs sends the last lines of what a component printed, oldest first, and with
// follow those that come, until ctx is done or the component is removed. Of one that
// is configured no more it sends what is left.
func (s *Supervisor) Logs(ctx context.Context, name string, last int, follow bool, send func([]Line) error) error {
	u := s.unit(name)
	if u == nil {
		return s.logsLeft(name, last, send)
	}
	lines, seq, err := u.log.tail(min(max(last, 0), MostLines))
	if err != nil {
		return err
	}
	if len(lines) > 0 {
		if err := send(lines); err != nil {
			return err
		}
	}
	for follow {
		next, changed := u.log.since(seq)
		if len(next) > 0 {
			seq = next[len(next)-1].Seq
			if err := send(next); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-u.done:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// logsLeft sends the last lines of a component that is no more.
func (s *Supervisor) logsLeft(name string, last int, send func([]Line) error) error {
	left := &output{path: filepath.Join(s.opt.LogDir, name+logSuffix)}
	if _, err := os.Stat(left.path); name != filepath.Base(name) || err != nil {
		return unknown(name)
	}
	lines, _, err := left.tail(min(max(last, 0), MostLines))
	if err != nil || len(lines) == 0 {
		return err
	}
	return send(lines)
}

// tail returns the last lines of the files, and the number of the last line.
func (o *output) tail(n int) ([]Line, int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n == 0 {
		return nil, o.seq, nil
	}
	data, err := lastBytes(o.path, maxTail)
	if err == nil && bytes.Count(data, []byte{'\n'}) < n { // the file before has the rest
		var before []byte
		before, err = lastBytes(o.path+".1", maxTail)
		data = slices.Concat(before, data)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read component log: %w", err)
	}
	var lines []Line
	for text := range strings.Lines(string(data)) {
		lines = append(lines, parseLine(strings.TrimSuffix(text, "\n")))
	}
	return lines[max(0, len(lines)-n):], o.seq, nil
}

// lastBytes returns the end of a file from the beginning of a line on, and
// nothing where there is no file.
func lastBytes(path string, limit int64) (data []byte, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-limit)
	data, err = io.ReadAll(io.NewSectionReader(f, from, limit))
	if from > 0 {
		_, data, _ = bytes.Cut(data, []byte{'\n'})
	}
	return data, err
}

// parseLine takes apart what keepLocked wrote.
func parseLine(text string) Line {
	head, rest, ok := strings.Cut(text, " ")
	if at, err := time.Parse(lineTime, head); ok && err == nil {
		return Line{At: at, Text: rest}
	}
	return Line{Text: text}
}

// since returns the lines after one, as far as they are remembered, and a channel
// that is closed when there are more.
func (o *output) since(seq int64) ([]Line, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from := slices.IndexFunc(o.recent, func(l Line) bool { return l.Seq > seq })
	if from < 0 {
		return nil, o.changed
	}
	next := slices.Clone(o.recent[from:])
	if missed := next[0].Seq - seq - 1; missed > 0 {
		next = slices.Insert(next, 0, Line{Seq: next[0].Seq - 1, At: next[0].At, Text: fmt.Sprintf("[sop: %d lines missed]", missed)})
	}
	return next, o.changed
}
