package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"text/template"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// contract is the version of the generator contract that is spoken.
const contract = "sop.generator/v1"

// task is what the plugin itself goes by of docs/generator-task.schema.json; a
// prompt may use all of it.
type task struct {
	Contract string `json:"contract"`
	ID       string `json:"id"`
	Goal     string `json:"goal"`
	Seed     int64  `json:"seed"`
	Budget   struct {
		Money       float64 `json:"money"`
		ModelTokens int64   `json:"model_tokens"`
	} `json:"budget"`
}

func readTask(text []byte) (t *task, all map[string]any, err error) {
	t = new(task)
	if err = json.Unmarshal(text, t); err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err == nil && (t.Contract != contract || t.ID == "" || t.Goal == "") {
		err = errors.New("it is of another contract, or lacks its id or its goal")
	}
	if err != nil {
		return nil, nil, sdk.Errorf(codes.InvalidArgument, "BAD_TASK", "the task: %w", err).
			WithRemedy("send a task that conforms to docs/generator-task.schema.json")
	}
	return t, all, nil
}

func newPrompt(text string) (*template.Template, error) {
	return template.New("prompt").Option("missingkey=zero").Funcs(template.FuncMap{"join": join}).Parse(text)
}

// join makes a sentence part of a list in a task.
func join(list any, separator string) string {
	values, _ := list.([]any) // what is missing is nothing
	parts := make([]string, 0, len(values))
	for _, v := range values {
		if text, ok := v.(string); ok {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, separator)
}

// maxPrompt bounds a prompt, in bytes.
const maxPrompt = 1 << 20

func (s *settings) promptFor(task map[string]any) ([]byte, error) {
	var out bytes.Buffer
	if err := s.prompt.Execute(&out, task); err != nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, "PROMPT", "the prompt cannot be made: %w", err).
			WithRemedy("correct the template in the plugin's config block")
	}
	if out.Len() > maxPrompt {
		return nil, sdk.Errorf(codes.FailedPrecondition, "PROMPT", "the prompt has %d bytes, over the limit of %d", out.Len(), maxPrompt)
	}
	return out.Bytes(), nil
}

// defaultPrompt says all that a task does, and what not to do.
const defaultPrompt = `{{.goal}}
{{with .gap}}
What was found{{with .rule}} by the rule {{.}}{{end}}{{with .path}}, in {{.}}{{end}}{{with .line}} at line {{.}}{{end}}{{with .symbol}} ({{.}}){{end}}:
{{.message}}
{{end}}{{with .success_criteria}}
It is done when:
{{range .}}- {{.}}
{{end}}{{end}}{{with .scope}}
Change only: {{join . ", "}}.
{{end}}{{with .protected}}
Do not change: {{join . ", "}}.
{{end}}{{with .verify}}
Afterwards this will be run: {{range $i, $step := .}}{{if $i}}; {{end}}{{with $step.command}}{{join . " "}}{{else}}{{$step.name}}{{end}}{{end}}.
{{end}}
Make the change in the files of the current directory. Change nothing that the goal does not need, commit nothing, and ask nobody: if it
cannot be done without a decision of a person, change nothing and say which.
`
