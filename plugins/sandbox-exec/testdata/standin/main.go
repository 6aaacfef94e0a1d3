// Command standin behaves as the documented command line of the coding agent
// whose name it is called by, without a model: it takes the options that
// docs/generators.md names, refuses others, and changes a.txt as if that had been
// asked for. The word FAIL in the prompt makes it fail as that agent does.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	agents := map[string]func([]string) error{"claude": claude, "codex": codex, "aider": aider, "mini": mini}
	agent, known := agents[filepath.Base(os.Args[0])]
	if !known {
		fmt.Fprintln(os.Stderr, "called by no agent's name")
		os.Exit(2)
	}
	if err := agent(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errFailed = errors.New("the model did not answer")

// work is what the agent does for a prompt.
func work(prompt, key string) error {
	if os.Getenv(key) == "" {
		return fmt.Errorf("%s is not set", key)
	}
	if strings.Contains(prompt, "FAIL") {
		return errFailed
	}
	if !strings.Contains(prompt, "change a.txt") {
		return fmt.Errorf("there is no task in the prompt %q", prompt)
	}
	return os.WriteFile("a.txt", []byte("new\n"), 0o644)
}

func emit(value map[string]any) {
	line, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func options(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ExitOnError) }

// claude -p --output-format stream-json --verbose --permission-mode MODE
// --max-turns N [PROMPT]; the prompt may come from standard input.
func claude(args []string) error {
	o := options("claude")
	var printing bool
	o.BoolVar(&printing, "p", false, "")
	o.BoolVar(&printing, "print", false, "")
	format, mode := o.String("output-format", "text", ""), o.String("permission-mode", "default", "")
	verbose := o.Bool("verbose", false, "")
	o.String("model", "", "")
	o.Int("max-turns", 0, "")
	_ = o.Parse(args)
	if !printing || *format != "stream-json" || !*verbose || *mode != "acceptEdits" && *mode != "bypassPermissions" {
		return errors.New("claude would wait for somebody: -p --output-format stream-json --verbose --permission-mode acceptEdits are needed")
	}
	prompt := o.Arg(0)
	if prompt == "" {
		data, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		prompt = string(data)
	}
	emit(map[string]any{"type": "system", "subtype": "init", "session_id": "s", "tools": []string{"Edit"}})
	emit(map[string]any{"type": "assistant", "message": map[string]any{"role": "assistant", "content": []any{map[string]any{"type": "text", "text": "Editing a.txt"}}}})
	err := work(prompt, "ANTHROPIC_API_KEY")
	result := map[string]any{
		"type": "result", "subtype": "success", "is_error": err != nil, "result": "Changed a.txt.", "num_turns": 2, "session_id": "s",
		"total_cost_usd": 0.25, "usage": map[string]any{"input_tokens": 100, "output_tokens": 20},
	}
	if err != nil {
		result["result"] = err.Error()
	}
	emit(result)
	return err
}

// codex exec --json --skip-git-repo-check --ephemeral
// --dangerously-bypass-approvals-and-sandbox -
func codex(args []string) error {
	if len(args) == 0 || args[0] != "exec" {
		return errors.New("codex would open its own screen: exec is needed")
	}
	o := options("codex exec")
	asJSON, norepo, free := o.Bool("json", false, ""), o.Bool("skip-git-repo-check", false, ""), o.Bool("dangerously-bypass-approvals-and-sandbox", false, "")
	o.Bool("ephemeral", false, "")
	o.String("model", "", "")
	_ = o.Parse(args[1:])
	if !*asJSON || !*norepo || !*free || o.Arg(0) != "-" {
		return errors.New("codex would refuse or print for people: --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox - are needed")
	}
	prompt, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	emit(map[string]any{"type": "thread.started", "thread_id": "t"})
	emit(map[string]any{"type": "turn.started"})
	if err := work(string(prompt), "CODEX_API_KEY"); err != nil {
		emit(map[string]any{"type": "turn.failed", "error": map[string]any{"message": err.Error()}})
		return err
	}
	emit(map[string]any{"type": "item.completed", "item": map[string]any{"id": "item_0", "type": "command_execution", "command": "sed -i s/old/new/ a.txt", "exit_code": 0}})
	emit(map[string]any{"type": "item.completed", "item": map[string]any{"id": "item_1", "type": "agent_message", "text": "Changed a.txt."}})
	emit(map[string]any{"type": "turn.completed", "usage": map[string]any{"input_tokens": 100, "cached_input_tokens": 0, "output_tokens": 20}})
	return nil
}

// aider --message-file FILE --yes-always --no-git --no-auto-commits --no-stream
// --no-pretty --no-check-update --analytics-disable FILE…
func aider(args []string) error {
	o := options("aider")
	file := o.String("message-file", "", "")
	yes := o.Bool("yes-always", false, "")
	for _, name := range []string{"no-git", "no-auto-commits", "no-stream", "no-pretty", "no-check-update", "analytics-disable", "no-show-model-warnings"} {
		o.Bool(name, false, "")
	}
	o.String("model", "", "")
	_ = o.Parse(args)
	if *file == "" || !*yes {
		return errors.New("aider would open a chat: --message-file and --yes-always are needed")
	}
	prompt, err := os.ReadFile(*file)
	if err != nil {
		return err
	}
	if err := work(string(prompt), "ANTHROPIC_API_KEY"); err != nil {
		fmt.Println("litellm.APIError:", err) // and ends with 0
		return nil
	}
	fmt.Println("Applied edit to a.txt\nTokens: 2.3k sent, 120 received. Cost: $0.01 message, $0.01 session.")
	return nil
}

// mini -t TASK -y --exit-immediately -o FILE [-m MODEL] [-l LIMIT]
func mini(args []string) error {
	o := options("mini")
	task, output := o.String("t", "", ""), o.String("o", "", "")
	yes, exit := o.Bool("y", false, ""), o.Bool("exit-immediately", false, "")
	o.String("m", "", "")
	o.Float64("l", 0, "")
	_ = o.Parse(args)
	if *task == "" || !*yes || !*exit {
		return errors.New("mini would ask: -t, -y and --exit-immediately are needed")
	}
	status, submission := "Submitted", "Changed a.txt."
	if err := work(*task, "ANTHROPIC_API_KEY"); err != nil {
		status, submission = "LimitsExceeded", ""
	}
	data, err := json.Marshal(map[string]any{
		"info":              map[string]any{"exit_status": status, "submission": submission, "model_stats": map[string]any{"instance_cost": 0.02, "api_calls": 3}},
		"messages":          []any{},
		"trajectory_format": "mini-swe-agent-1",
	})
	if err != nil {
		return err
	}
	return os.WriteFile(*output, data, 0o644)
}
