package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// claim is what a command says of itself.
type claim struct {
	explanation string
	failed      bool
	outcome     int // the code of what result.json says; 0 unless it says otherwise
	money       float64
	modelTokens int64
}

func (c *claim) properties() map[string]string {
	out := make(map[string]string)
	if c.money > 0 {
		out["money"] = number(c.money)
	}
	if c.modelTokens > 0 {
		out["model_tokens"] = fmt.Sprint(c.modelTokens)
	}
	return out
}

// spent says whether a budget is.
func (r *run) spent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.task.Budget
	return b.Money > 0 && r.claim.money > b.Money || b.ModelTokens > 0 && r.claim.modelTokens > b.ModelTokens
}

// watch looks at what the command puts into SOP_OUT while it runs, and ends it
// for what it may not do.
func (r *run) watch(over <-chan struct{}, end func(error)) {
	events := &follower{path: filepath.Join(r.files.out, "events.jsonl")}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-over:
			last = true
		case <-tick.C:
		}
		if sizeOf(r.files.out) > maxOut {
			end(errOut)
			return
		}
		if events.each(r.event); r.spent() {
			end(errBudget)
		}
	}
}

// maxOut bounds SOP_OUT, in bytes.
const maxOut = 1 << 20

func sizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it has gone meanwhile
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}

// follower reads the lines that are added to a file.
type follower struct {
	path   string
	offset int64
}

func (f *follower) each(line func([]byte)) {
	data, err := readRegular(f.path, f.offset)
	if err != nil {
		return // there is none, or none yet
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	f.offset += int64(whole)
	for each := range bytes.Lines(data[:whole]) {
		line(bytes.TrimSpace(each))
	}
}

// readRegular reads a file of the command's, from an offset, as far as SOP_OUT
// may reach. It follows no link and waits for nothing.
func readRegular(path string, offset int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|openNoFollow, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read from
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is no file"))
	}
	return io.ReadAll(io.NewSectionReader(file, offset, maxOut))
}

// event is a line of events.jsonl: see docs/generator-event.schema.json.
type event struct {
	Phase   string `json:"phase"`
	Message string `json:"message"`
	Cost    cost   `json:"cost"`
}

type cost struct {
	Money       float64 `json:"money"`
	ModelTokens int64   `json:"model_tokens"`
}

func (r *run) event(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil {
		return // a claim that says nothing
	}
	r.costs(e.Cost)
	if e.Phase != "" || e.Message != "" {
		_ = r.progress(e.Phase, e.Message) // the end of the stream ends the run
	}
}

func (r *run) costs(c cost) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claim.money = max(r.claim.money, c.Money)
	r.claim.modelTokens = max(r.claim.modelTokens, c.ModelTokens)
}

// resultFile is docs/generator-result.schema.json.
type resultFile struct {
	Contract    string `json:"contract"`
	Outcome     string `json:"outcome"`
	Explanation string `json:"explanation"`
	Cost        cost   `json:"cost"`
}

// readFiles takes what the command has left in SOP_OUT.
func (r *run) readFiles() {
	if data, err := readRegular(filepath.Join(r.files.out, "result.json"), 0); err == nil {
		r.resultFile(data)
	}
	for i := range r.settings.Read {
		reading := &r.settings.Read[i]
		if reading.From == fromStdout {
			continue
		}
		data, err := readRegular(filepath.Join(r.files.out, reading.From), 0)
		var object map[string]any
		if err == nil && json.Unmarshal(data, &object) == nil {
			r.take(reading, object)
		}
	}
}

func (r *run) resultFile(data []byte) {
	var f resultFile
	if json.Unmarshal(data, &f) != nil || f.Contract != contract {
		return // a claim that says nothing
	}
	r.costs(f.Cost)
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.Explanation != "" {
		r.claim.explanation = f.Explanation
	}
	r.claim.outcome = outcomeCodes[f.Outcome]
}

// readLine takes what the readings of standard output find in a line.
func (r *run) readLine(line []byte) {
	line = bytes.TrimSpace(line)
	if len(r.settings.Read) == 0 || len(line) == 0 || line[0] != '{' {
		return
	}
	var object map[string]any
	if json.Unmarshal(line, &object) != nil {
		return // it only looks like JSON
	}
	for i := range r.settings.Read {
		if reading := &r.settings.Read[i]; reading.From == fromStdout {
			r.take(reading, object)
		}
	}
}

// take is one reading of one object.
func (r *run) take(reading *reading, object map[string]any) {
	for path, want := range reading.Where {
		if textOf(at(object, path)) != want {
			return
		}
	}
	if text := textOf(at(object, reading.Progress)); text != "" {
		_ = r.progress("running", text) // the end of the stream ends the run
	}
	var c cost
	c.Money, _ = at(object, reading.Money).(float64)
	for _, path := range reading.ModelTokens {
		n, _ := at(object, path).(float64)
		c.ModelTokens += int64(n)
	}
	r.costs(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	if text := textOf(at(object, reading.Explanation)); text != "" {
		r.claim.explanation = text
	}
	for path, want := range reading.Expect {
		r.claim.failed = r.claim.failed || textOf(at(object, path)) != want
	}
	switch failed := at(object, reading.Failed).(type) {
	case bool:
		r.claim.failed = r.claim.failed || failed
	case string:
		r.claim.failed = r.claim.failed || failed != ""
	}
}

// at finds a value by its path: names with points between, and numbers for
// positions in lists, from 0; -1 is the last.
func at(value any, path string) any {
	if path == "" {
		return nil
	}
	for name := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case []any:
			var i int
			if _, err := fmt.Sscanf(name, "%d", &i); err != nil {
				return nil
			}
			if i < 0 {
				i += len(v)
			}
			if i < 0 || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

func textOf(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case bool, float64:
		return fmt.Sprint(v)
	}
	return ""
}
