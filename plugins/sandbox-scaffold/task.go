package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/scaffold"
)

// contract is the version of the generator contract that is spoken.
const contract = "sop.generator/v1"

// maxTask is how many bytes a task may have.
const maxTask = 4 << 20

// task is what docs/generator-task.schema.json describes, as far as it matters
// to scaffolds.
type task struct {
	Contract        string            `json:"contract"`
	ID              string            `json:"id"`
	Kind            string            `json:"kind"`
	Title           string            `json:"title"`
	Workspace       string            `json:"workspace"`
	Priority        int               `json:"priority"`
	Gap             gap               `json:"gap"`
	Gaps            []gap             `json:"gaps"`
	Requirements    []string          `json:"requirements"`
	Target          json.RawMessage   `json:"target"`
	Approval        string            `json:"approval"`
	Dependencies    json.RawMessage   `json:"dependencies"`
	Attempt         json.RawMessage   `json:"attempt"`
	Goal            string            `json:"goal"`
	SuccessCriteria []string          `json:"success_criteria"`
	Scope           []string          `json:"scope"`
	Protected       []string          `json:"protected"`
	Verify          []json.RawMessage `json:"verify"`
	Budget          json.RawMessage   `json:"budget"`
	Seed            int64             `json:"seed"`
	Scaffold        struct {
		Name       string          `json:"name"`
		Parameters map[string]any  `json:"parameters"`
		Candidates json.RawMessage `json:"candidates"` // as the host knows them; those of this plugin count
	} `json:"scaffold"`
	Previous map[string]string `json:"previous"`
}

// gap is a deficiency with what people are told of it.
type gap struct {
	scaffold.Gap
	Severity string `json:"severity"`
	Remedy   string `json:"remedy"`
	Evidence string `json:"evidence"`
}

// gaps are all deficiencies of the task, those further down in a file first: what
// is written for one moves only what has been seen to.
func (t *task) gaps() []scaffold.Gap {
	if len(t.Gaps) == 0 {
		return []scaffold.Gap{t.Gap.Gap}
	}
	all := make([]scaffold.Gap, len(t.Gaps))
	for i := range t.Gaps {
		all[i] = t.Gaps[i].Gap
	}
	slices.SortStableFunc(all, func(a, b scaffold.Gap) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(b.Line, a.Line))
	})
	return all
}

// readTask refuses what does not conform.
func readTask(text []byte) (*task, error) {
	bad := func(format string, args ...any) error {
		return sdk.Errorf(codes.InvalidArgument, "BAD_TASK", format, args...).
			WithRemedy("send a task that conforms to docs/generator-task.schema.json")
	}
	if len(text) > maxTask {
		return nil, bad("the task has %d bytes, over the limit of %d", len(text), maxTask)
	}
	t := &task{}
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(t); err != nil {
		return nil, bad("the task cannot be read: %w", err)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("something follows the task")
	}
	switch {
	case t.Contract != contract:
		return nil, bad("the task is of the contract %q, not %q", t.Contract, contract)
	case t.ID == "" || t.Gap.Type == "" || t.Goal == "":
		return nil, bad("the task lacks its id, its goal or the type of its gap")
	}
	return t, nil
}

// permits says whether a path may be changed.
func (t *task) permits(path string) bool {
	inScope := len(t.Scope) == 0
	for _, p := range t.Scope {
		inScope = inScope || scaffold.MatchPath(p, path)
	}
	for _, p := range t.Protected {
		if scaffold.MatchPath(p, path) {
			return false
		}
	}
	return inScope
}
