package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/sop-host/sop/sdk"
)

// schema of the plugin's `config { }` block.
var schema = sdk.Schema{
	Attributes: []sdk.Attribute{
		{Name: "command", Type: sdk.StringList, Required: true, Description: "Program and arguments. {prompt}, {prompt_file}, {task_file} and {out} stand for the prompt, the files and the directory of the contract."},
		{Name: "env_pass", Type: sdk.StringList, Description: "Variables of the plugin's own environment that the command gets too; give them to the plugin with its block's env or env_pass."},
		{Name: "timeout", Type: sdk.String, Description: "Longest time that the command may take, such as 20m; less if the task's budget or the profile is less."},
		{Name: "prompt", Type: sdk.String, Description: "The prompt, as a text/template over the task; a bundled one unless said otherwise."},
		{Name: "stdin", Type: sdk.String, Default: "prompt", Description: "What the command reads: prompt or none."},
		{Name: "exit", Type: sdk.StringMap, Description: "What exit codes of the command mean that differ from the contract's: changed, nothing_to_do, needs_person, budget_spent, bad_task or crashed, by code."},
	},
	Blocks: []sdk.Block{{Name: "read", Nesting: sdk.List, Schema: sdk.Schema{Attributes: []sdk.Attribute{
		{Name: "from", Type: sdk.String, Default: "stdout", Description: "stdout: each line that is a JSON object; or the name of a JSON file in the directory {out}."},
		{Name: "where", Type: sdk.StringMap, Description: "Only objects that have these values, by path such as item.type."},
		{Name: "progress", Type: sdk.String, Description: "Path of a text that says what is being done."},
		{Name: "explanation", Type: sdk.String, Description: "Path of the text that says what was done; the last one counts."},
		{Name: "failed", Type: sdk.String, Description: "Path of a value that says that it failed, whatever the exit code: true, or any text."},
		{Name: "expect", Type: sdk.StringMap, Description: "Values, by path, that it must have, or it failed, whatever the exit code."},
		{Name: "money", Type: sdk.String, Description: "Path of what was spent so far."},
		{Name: "model_tokens", Type: sdk.StringList, Description: "Paths whose sum is the model tokens used so far."},
	}}}},
}

// block is the decoded `config { }`.
type block struct {
	Command []string          `json:"command"`
	EnvPass []string          `json:"env_pass"`
	Timeout string            `json:"timeout"`
	Prompt  string            `json:"prompt"`
	Stdin   string            `json:"stdin"`
	Exit    map[string]string `json:"exit"`
	Read    []reading         `json:"read"`
}

// A reading says what to take from the JSON that a command writes.
type reading struct {
	From        string            `json:"from"`
	Where       map[string]string `json:"where"`
	Progress    string            `json:"progress"`
	Explanation string            `json:"explanation"`
	Failed      string            `json:"failed"`
	Expect      map[string]string `json:"expect"`
	Money       string            `json:"money"`
	ModelTokens []string          `json:"model_tokens"`
}

const fromStdout = "stdout"

// settings is the configuration in use.
type settings struct {
	block
	timeout time.Duration // 0 for none
	prompt  *template.Template
	exit    map[int]int
}

// outcomeCodes are the contract's, by name.
var outcomeCodes = map[string]int{
	"changed": exitChanged, "nothing_to_do": exitNothing, "needs_person": exitPerson, "budget_spent": exitBudget, "bad_task": exitBadTask, "crashed": exitCrashed,
}

// configure implements [sdk.ConfigureFunc].
func (g *generator) configure(_ context.Context, c *sdk.Config) error {
	s := &settings{}
	if err := c.Decode(&s.block); err != nil {
		return &sdk.ConfigError{Summary: err.Error()}
	}
	if err := errors.Join(s.checkCommand(), s.checkTimeout(), s.checkPrompt(), s.checkExit(), s.checkReadings()); err != nil {
		return err
	}
	g.settings.Store(s)
	return nil
}

func (s *settings) checkCommand() error {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return &sdk.ConfigError{Attribute: "command", Summary: "command names no program", Detail: `such as ["/usr/local/bin/fix-it"]`}
	}
	for _, name := range s.EnvPass {
		if name == "" || strings.ContainsAny(name, "=\x00") || slices.Contains(ownVariables, name) || strings.HasPrefix(name, "SOP_") || strings.HasPrefix(name, "PLUGIN_") {
			return &sdk.ConfigError{Attribute: "env_pass", Summary: fmt.Sprintf("the variable %q cannot be passed", name), Detail: "PATH, HOME, TMPDIR, LANG, TZ and what begins with SOP_ are set by the contract"}
		}
	}
	return nil
}

func (s *settings) checkTimeout() (err error) {
	if s.Timeout == "" {
		return nil
	}
	if s.timeout, err = time.ParseDuration(s.Timeout); err != nil || s.timeout <= 0 {
		return &sdk.ConfigError{Attribute: "timeout", Summary: fmt.Sprintf("%q is no time", s.Timeout), Detail: "write it as 20m or 90s"}
	}
	return nil
}

func (s *settings) checkPrompt() (err error) {
	text := s.Prompt
	if text == "" {
		text = defaultPrompt
	}
	if s.prompt, err = newPrompt(text); err != nil {
		return &sdk.ConfigError{Attribute: "prompt", Summary: "the prompt is no template", Detail: err.Error()}
	}
	if s.Stdin != "" && s.Stdin != "prompt" && s.Stdin != "none" {
		return &sdk.ConfigError{Attribute: "stdin", Summary: fmt.Sprintf("stdin cannot be %q", s.Stdin), Detail: "prompt or none"}
	}
	return nil
}

func (s *settings) checkExit() error {
	s.exit = make(map[int]int)
	for text, name := range s.Exit {
		code, err := strconv.Atoi(text)
		to, known := outcomeCodes[name]
		if err != nil || code < 0 || code > maxExitCode || !known {
			return &sdk.ConfigError{Attribute: "exit", Summary: fmt.Sprintf("%s = %q does not say what an exit code means", text, name), Detail: "codes are 0 to 255; outcomes are changed, nothing_to_do, needs_person, budget_spent, bad_task, crashed"}
		}
		s.exit[code] = to
	}
	return nil
}

const maxExitCode = 255

func (s *settings) checkReadings() error {
	for i := range s.Read {
		from := s.Read[i].From
		if from == "" {
			s.Read[i].From = fromStdout
			continue
		}
		if from != fromStdout && (path.Base(from) != from || from == "." || from == "..") {
			return &sdk.ConfigError{Block: "read", Attribute: "from", Summary: fmt.Sprintf("%q is no name of a file in {out}", from)}
		}
	}
	return nil
}
