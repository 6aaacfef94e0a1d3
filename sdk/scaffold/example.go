package scaffold

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"
)

// maxExamples bounds the examples beside one scaffold.
const maxExamples = 64

// Example is a pair of input and expected result beside a scaffold, as a txtar
// archive: task.json holds the gap, parameters and previous hashes; in/ the
// workspace; want/ the files that are changed, as they are after. The file
// refused, instead of want/, holds a part of the reason.
type Example struct {
	Name    string
	archive []byte
}

// Verdict is what became of an example; Problem is empty when it held.
type Verdict struct {
	Example string `json:"example"`
	Problem string `json:"problem,omitempty"`
}

// exampleTask is task.json of an example.
type exampleTask struct {
	Gap        Gap               `json:"gap"`
	Parameters map[string]any    `json:"parameters"`
	Previous   map[string]string `json:"previous"`
}

// loadExamples reads what lies beside a scaffold in dir.
func loadExamples(files fs.FS, dir string) ([]Example, error) {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return nil, err
	}
	var all []Example
	for _, e := range entries {
		if e.IsDir() || path.Ext(e.Name()) != ".txtar" {
			continue
		}
		if len(all) == maxExamples {
			return nil, fmt.Errorf("%s holds more than %d examples", dir, maxExamples)
		}
		content, err := readBounded(files, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, Example{strings.TrimSuffix(e.Name(), ".txtar"), content})
	}
	return all, nil
}

// Test applies s to each of its examples.
func (s *Scaffold) Test(ctx context.Context) []Verdict {
	verdicts := make([]Verdict, 0, len(s.Examples))
	for _, e := range s.Examples {
		v := Verdict{Example: e.Name}
		if err := s.try(ctx, e); err != nil {
			v.Problem = err.Error()
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// try says what is wrong with one example.
func (s *Scaffold) try(ctx context.Context, e Example) error {
	in, want, refused := MapTree{}, MapTree{}, ""
	var task *exampleTask
	for _, f := range txtar.Parse(e.archive).Files {
		dir, name, _ := strings.Cut(f.Name, "/")
		switch {
		case f.Name == "task.json":
			task = &exampleTask{}
			d := json.NewDecoder(bytes.NewReader(f.Data))
			d.DisallowUnknownFields()
			if err := d.Decode(task); err != nil {
				return fmt.Errorf("task.json: %w", err)
			}
		case f.Name == "refused":
			refused = strings.TrimSpace(string(f.Data))
		case dir == "in" && isLocal(name):
			in[name] = f.Data
		case dir == "want" && isLocal(name):
			want[name] = f.Data
		default:
			return fmt.Errorf("%s is none of task.json, refused, in/… and want/…", f.Name)
		}
	}
	if task == nil {
		return errors.New("there is no task.json")
	}
	changes, err := s.Apply(ctx, &Input{Tree: in, Gap: task.Gap, Parameters: task.Parameters, Previous: task.Previous})
	var refusal *RefusedError
	switch {
	case refused != "" && errors.As(err, &refusal) && strings.Contains(refusal.Reason, refused):
		return nil
	case refused != "":
		return fmt.Errorf("it should be refused with %q; got %w", refused, orDone(err))
	case errors.Is(err, ErrNothing) && len(want) == 0:
		return nil
	case err != nil:
		return err
	}
	return compare(changes, want)
}

func orDone(err error) error {
	if err == nil {
		return errors.New("a change")
	}
	return err
}

// compare says where changes are not as wanted.
func compare(changes []Change, want MapTree) error {
	for _, c := range changes {
		expected, ok := want[c.Path]
		if !ok {
			return fmt.Errorf("%s is changed, which is not in want/", c.Path)
		}
		if !bytes.Equal(c.Content, expected) {
			line := firstDifference(c.Content, expected)
			return fmt.Errorf("%s differs from want/ at line %d: got %q, want %q", c.Path, line, lineOf(c.Content, line), lineOf(expected, line))
		}
	}
	for _, name := range want.Files() {
		if !slices.ContainsFunc(changes, func(c Change) bool { return c.Path == name }) {
			return fmt.Errorf("%s is not changed", name)
		}
	}
	return nil
}

// firstDifference is the first line, from 1, in which a and b differ.
func firstDifference(a, b []byte) int {
	n := 1
	for n < 1+bytes.Count(a, []byte{'\n'}) && lineOf(a, n) == lineOf(b, n) {
		n++
	}
	return n
}

// lineOf is a line, from 1, or "" past the end.
func lineOf(text []byte, n int) string {
	all := strings.Split(string(text), "\n")
	if n > len(all) {
		return ""
	}
	return all[n-1]
}
