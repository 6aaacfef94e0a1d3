package cli

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type fixOptions struct {
	*app
	change
	id, sandbox string
	dryRun, yes bool
	shown       *apiv1.WatchRunResponse // last
}

func (a *app) newFixCommand() *cobra.Command {
	o := &fixOptions{app: a}
	cmd := &cobra.Command{
		Use:   "fix GAP|TASK",
		Short: "Take one gap through the whole loop",
		Long: `Have a sandbox plugin work on a gap, or a task, and take what it changes through verification, approval, backup and
integration, until a rescan confirms that the gap is gone. What happens is shown as it happens. Where somebody has to
approve, the change is shown and you are asked; with --yes it is approved in your name without asking. Ctrl-C ends the
showing, not the work.

With --dry-run the change is made in a sandbox and shown, and nothing else happens. Exit 3 when an approval is still to
come, 4 when it was denied.`,
		Example: `  sop fix 0199f3c2
  sop fix 0199f3c2 --sandbox scaffold --dry-run
  sop fix 0199f3c2 --yes -o json`,
		Args:        arguments(1, 1, "the ID of a gap or of a task"),
		Annotations: exits("34567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.sandbox, "sandbox", "", "the sandbox `plugin` that makes the change (default: as the rules say)")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would be changed, and stop")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "approve the change without asking")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "yes")
	o.addChange(cmd)
	return cmd
}

// fixTimeout bounds the whole way, the waiting for an answer included.
const fixTimeout = 2 * time.Hour

func (o *fixOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, fixTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	if o.dryRun {
		return o.try(ctx, c)
	}
	started, err := c.run().StartRun(ctx, connect.NewRequest(&apiv1.StartRunRequest{
		Id: o.id, Sandbox: o.sandbox, ValidateOnly: o.check, IdempotencyKey: o.key,
	}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the task would be worked on")
	}
	for {
		last, err := o.follow(ctx, c, started.Msg.GetTaskId())
		if err != nil {
			return err
		}
		again, err := o.settled(ctx, c, last)
		if err != nil || !again {
			return err
		}
	}
}

// try shows what a run would change.
func (o *fixOptions) try(ctx context.Context, c *client) error {
	answer, err := c.run().TryRun(ctx, connect.NewRequest(&apiv1.TryRunRequest{Id: o.id, Sandbox: o.sandbox}))
	if err != nil {
		return err
	}
	trial := answer.Msg
	if o.json() {
		if err := printJSON(o.Out, wire{trial}); err != nil {
			return err
		}
	} else {
		o.say("%s: %s\n", term.Safe(trial.GetOutcome()), term.SafeLines(trial.GetExplanation()))
		for _, why := range trial.GetRejected() {
			o.say("rejected: %s\n", term.Safe(why))
		}
		o.printDiff(trial.GetDiff())
	}
	if trial.GetOutcome() != "changed" || len(trial.GetRejected()) > 0 {
		return exitError(exitFailed)
	}
	return nil
}

// follow shows what happens to a task until nothing goes on by itself, and
// returns the last step.
func (o *fixOptions) follow(ctx context.Context, c *client, task string) (last *apiv1.WatchRunResponse, err error) {
	stream, err := c.run().WatchRun(ctx, connect.NewRequest(&apiv1.WatchRunRequest{TaskId: task}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ended(ctx, stream.Close())) }()
	for stream.Receive() {
		last = stream.Msg()
		if err := o.show(last); err != nil {
			return nil, err
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	if last == nil {
		return nil, errors.New("the host said nothing of the task")
	}
	return last, nil
}

func (o *fixOptions) show(step *apiv1.WatchRunResponse) error {
	if o.json() {
		return printJSONLine(o.Out, wire{step})
	}
	if before := o.shown; before != nil && before.GetState() == step.GetState() && before.GetPhase() == step.GetPhase() && before.GetDetail() == step.GetDetail() {
		return nil // a watch begins and ends with how the task stands
	}
	o.shown = step
	what := step.GetState()
	if step.GetPhase() != "" {
		what = "  " + step.GetPhase()
	}
	palette := o.palette(o.OutTerminal)
	o.say("%s  %s  %s\n", palette.Paint(term.Faint, step.GetAt().AsTime().Local().Format("15:04:05")),
		palette.Paint(stateStyle(step.GetState()), term.Pad(term.Safe(what), fixColumns)), term.Safe(step.GetDetail()))
	return nil
}

const fixColumns = 18

// settled decides what comes next for a task with which nothing goes on by
// itself; again: it goes on after all.
func (o *fixOptions) settled(ctx context.Context, c *client, last *apiv1.WatchRunResponse) (again bool, err error) {
	switch last.GetState() {
	case "done":
		return false, nil
	case "awaiting_approval":
		return o.approve(ctx, c, last.GetPatchId())
	case "denied":
		return false, exitError(exitDenied)
	}
	return false, exitError(exitFailed)
}

// approve shows a patch and approves it, if it is told to.
func (o *fixOptions) approve(ctx context.Context, c *client, id string) (again bool, err error) {
	answer, err := c.patch().GetPatch(ctx, connect.NewRequest(&apiv1.GetPatchRequest{Id: id, Diff: true}))
	if err != nil {
		return false, err
	}
	p := answer.Msg.GetPatch()
	if !o.json() {
		o.printDiff(answer.Msg.GetDiff())
		if risks := p.GetRisks(); len(risks) > 0 {
			o.say("risks: %s\n", term.Safe(strings.Join(risks, ", ")))
		}
	}
	if !o.yes {
		if approved, err := o.ask(ctx, "Approve this change? [y/N] "); err != nil || !approved {
			if !o.json() {
				o.say("it waits: sop patch approve %s\n", term.Safe(id))
			}
			return false, errors.Join(err, exitError(exitPending))
		}
	}
	_, err = c.patch().ApprovePatch(ctx, connect.NewRequest(&apiv1.ApprovePatchRequest{Id: id, Hash: p.GetHash()}))
	if err != nil {
		return false, err
	}
	return true, nil
}

// ask puts a question to whoever sits at the terminal; elsewhere the answer is
// no.
func (o *fixOptions) ask(ctx context.Context, question string) (bool, error) {
	if o.json() || !o.OutTerminal {
		return false, nil
	}
	o.say("%s", question)
	line := make(chan string, 1)
	go func() {
		text, err := bufio.NewReader(o.In).ReadString('\n')
		if err != nil {
			text = ""
		}
		line <- text
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case text := <-line:
		return strings.EqualFold(strings.TrimSpace(text), "y") || strings.EqualFold(strings.TrimSpace(text), "yes"), nil
	}
}
