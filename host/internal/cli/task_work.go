package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// holding is what commands of whoever holds a task have in common.
type holding struct {
	id    string
	fence int64
	args  []string // where the token is
}

// command makes a command that is about a task that is held.
func (h *holding) command(cmd *cobra.Command, run func(ctx context.Context) error, fenced bool) *cobra.Command {
	cmd.Args = arguments(1, 2, "the ID of a task, and the FILE that holds its token unless that is on standard input")
	cmd.Annotations = exits("34567")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		h.id, h.args = args[0], args[1:]
		if fenced && h.fence < 1 {
			return usagef("--fence is missing").WithRemedy("give the number that the claim was answered")
		}
		return run(cmd.Context())
	}
	if fenced {
		cmd.Flags().Int64Var(&h.fence, "fence", 0, "the `number` that the claim was answered; required")
	}
	return cmd
}

type taskHeartbeatOptions struct {
	*app
	change
	holding
}

func (a *app) newTaskHeartbeatCommand() *cobra.Command {
	o := &taskHeartbeatOptions{app: a}
	cmd := o.command(&cobra.Command{
		Use:     "heartbeat ID [FILE] --fence NUMBER",
		Short:   "Renew the claim on a task",
		Long:    "Renew the claim on a task. Exit code 3 says to stop working on it, and 6 that another may have it by now.",
		Example: "  sop task heartbeat 0199f3c2 token --fence 1",
	}, o.run, true)
	o.addChange(cmd)
	return cmd
}

func (o *taskHeartbeatOptions) run(ctx context.Context) error {
	secret, err := o.readSecret(o.args)
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.task().HeartbeatTask(ctx, connect.NewRequest(&apiv1.HeartbeatTaskRequest{
		Id: o.id, Token: secret, Fence: o.fence, ValidateOnly: o.check, IdempotencyKey: o.key,
	}))
	if err != nil {
		return err
	}
	m := answer.Msg
	if o.json() {
		err = printJSON(o.Out, map[string]wire{"heartbeat": {m}})
	} else if m.GetStop() == "" {
		o.say("held until %s\n", m.GetLeaseUntil().AsTime().Format("15:04:05 MST"))
	}
	if err != nil || m.GetStop() == "" {
		return err
	}
	o.note("stop: %s\n", term.Safe(m.GetStop()))
	return exitError(exitPending)
}

type taskSubmitOptions struct {
	*app
	change
	holding
	from, explanation string
	files, gone       []string
}

func (a *app) newTaskSubmitCommand() *cobra.Command {
	o := &taskSubmitOptions{app: a}
	cmd := o.command(&cobra.Command{
		Use:   "submit ID [FILE] --fence NUMBER --from DIRECTORY --file PATH",
		Short: "Hand over the result of work on a task",
		Long: `Hand over the result of work on a task: files as they are to be, read beneath --from by their paths in the workspace, and
what is to be deleted. The host compares them with the workspace and keeps them as a patch; nothing is changed yet. Exit
code 6 says that the claim was lost, and the result is not taken over.`,
		Example: "  sop task submit 0199f3c2 token --fence 1 --from /tmp/copy --file docs/a.md --delete docs/old.md --explanation \"merged both\"",
	}, o.run, true)
	flags := cmd.Flags()
	flags.StringVar(&o.from, "from", ".", "the `directory` that holds the files as they are to be")
	flags.StringArrayVar(&o.files, "file", nil, "`path` of a file that is new or changed")
	flags.StringArrayVar(&o.gone, "delete", nil, "`path` of what is to be deleted")
	flags.StringVar(&o.explanation, "explanation", "", "what was done and why, in `words` for the reviewer")
	o.addChange(cmd)
	return cmd
}

func (o *taskSubmitOptions) run(ctx context.Context) error {
	files, err := o.read()
	if err != nil {
		return err
	}
	secret, err := o.readSecret(o.args)
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.task().SubmitTask(ctx, connect.NewRequest(&apiv1.SubmitTaskRequest{
		Id: o.id, Token: secret, Fence: o.fence, Files: files, Explanation: o.explanation, ValidateOnly: o.check, IdempotencyKey: o.key,
	}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the result would be taken over")
	}
	if o.json() {
		return printJSON(o.Out, map[string]any{"task": wire{answer.Msg.GetTask()}, "patch": answer.Msg.GetPatch()})
	}
	o.say("submitted %s: patch %s\n", term.Safe(answer.Msg.GetTask().GetId()), term.Safe(answer.Msg.GetPatch()))
	return nil
}

// read reads what is to be submitted. Only what lies beneath --from is read.
func (o *taskSubmitOptions) read() (files []*apiv1.SubmittedFile, err error) {
	if len(o.files)+len(o.gone) == 0 {
		return nil, usagef("nothing is submitted").WithRemedy("name files with --file and --delete, or give the task up: sop task give-up")
	}
	root, err := os.OpenRoot(o.from)
	if err != nil {
		return nil, here(err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, name := range o.files {
		name = filepath.ToSlash(filepath.Clean(name))
		info, err := root.Stat(name)
		if err != nil {
			return nil, here(err)
		}
		content, err := root.ReadFile(name)
		if err != nil {
			return nil, here(err)
		}
		files = append(files, &apiv1.SubmittedFile{Path: name, Op: "put", Mode: uint32(info.Mode().Perm()), Content: content})
	}
	for _, name := range o.gone {
		files = append(files, &apiv1.SubmittedFile{Path: filepath.ToSlash(filepath.Clean(name)), Op: "delete"})
	}
	return files, nil
}

type taskGiveUpOptions struct {
	*app
	change
	holding
	reason        string
	failed, final bool
}

func (a *app) newTaskGiveUpCommand() *cobra.Command {
	o := &taskGiveUpOptions{app: a}
	cmd := o.command(&cobra.Command{
		Use:   "give-up ID [FILE] --fence NUMBER",
		Short: "Give a claimed task back",
		Long: `Give a claimed task back. Without --failed it was not tried, and the attempt does not count; with it, it is tried again
after a while; with --final it is not.`,
		Example: "  sop task give-up 0199f3c2 token --fence 1 --failed --reason \"the tests need a database\"",
	}, o.run, true)
	flags := cmd.Flags()
	flags.StringVar(&o.reason, "reason", "", "why, in `words`, for whoever tries next")
	flags.BoolVar(&o.failed, "failed", false, "it was tried, and could not be done")
	flags.BoolVar(&o.final, "final", false, "another attempt would not do either")
	o.addChange(cmd)
	return cmd
}

func (o *taskGiveUpOptions) run(ctx context.Context) error {
	secret, err := o.readSecret(o.args)
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.task().GiveUpTask(ctx, connect.NewRequest(&apiv1.GiveUpTaskRequest{
		Id: o.id, Token: secret, Fence: o.fence, Reason: o.reason, Failed: o.failed, Final: o.final, ValidateOnly: o.check, IdempotencyKey: o.key,
	}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the task would be given back")
	}
	return o.printTaskDecision("gave back", answer.Msg.GetTask())
}

type taskVerdictOptions struct {
	*app
	holding
}

func (a *app) newTaskVerdictCommand() *cobra.Command {
	o := &taskVerdictOptions{app: a}
	return o.command(&cobra.Command{
		Use:     "verdict ID [FILE]",
		Short:   "Ask what became of a result",
		Long:    "Ask what became of a result that was submitted, with the token of the claim.",
		Example: "  sop task verdict 0199f3c2 token",
	}, o.run, false)
}

func (o *taskVerdictOptions) run(ctx context.Context) error {
	secret, err := o.readSecret(o.args)
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.task().GetTaskVerdict(ctx, connect.NewRequest(&apiv1.GetTaskVerdictRequest{Id: o.id, Token: secret}))
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string]wire{"verdict": {answer.Msg}})
	}
	o.say("%s\n", term.Safe(joinNonEmpty(": ", answer.Msg.GetState(), answer.Msg.GetReason())))
	if f := answer.Msg.GetFeedback(); f != "" {
		o.say("%s\n", term.SafeLines(f))
	}
	return nil
}
