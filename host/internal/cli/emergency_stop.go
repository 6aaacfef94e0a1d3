//go:build !front

package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

type emergencyStopOptions struct {
	*app
	change
	reason string
	yes    bool
}

func (a *app) newEmergencyStopCommand() *cobra.Command {
	o := &emergencyStopOptions{app: a}
	cmd := &cobra.Command{
		Use:   "emergency-stop",
		Short: "Stop everything at once, and keep it stopped",
		Long: `Refuse every token, kill every component, every plugin and everything in a sandbox, at once and without grace, and mark
the host stopped: nothing comes up by itself before ` + "`sop resume`" + `, whoever starts the host. Tokens stay revoked.
A host that does not answer is not waited for: what it has recorded is killed without it.`,
		Example:     "  sop emergency-stop --reason 'the agent deletes things'\n  sop emergency-stop --yes",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addChange(cmd)
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, for the `record`")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
	return cmd
}

// hangsAfter is how long the host may take before it is done without it.
const hangsAfter = time.Second

func (o *emergencyStopOptions) run(ctx context.Context) error {
	if !o.check && !o.yes {
		if err := o.confirm("stop"); err != nil {
			return err
		}
	}
	c := o.connect()
	defer c.Close()
	asking, cancel := context.WithTimeout(ctx, hangsAfter)
	defer cancel()
	answer, err := c.emergency().EmergencyStop(asking, connect.NewRequest(&apiv1.EmergencyStopRequest{Reason: o.reason, ValidateOnly: o.check, IdempotencyKey: o.key}))
	switch {
	case err == nil && o.check:
		return o.would("everything would be stopped")
	case err == nil:
		return o.show(answer.Msg)
	case o.check || o.isRemote() || !hangs(err):
		return err
	}
	return o.without(ctx, err)
}

// hangs says whether a host did not answer, as opposed to answering with an error.
func hangs(err error) bool {
	if unreachable(err) {
		return true
	}
	e := explain(err)
	return e.exit == exitTimeout || e.exit == exitUnreachable
}

// without does it without the host.
func (o *emergencyStopOptions) without(ctx context.Context, why error) error {
	dir := filepath.Dir(filepath.Dir(o.socket()))
	if info, err := os.Stat(filepath.Join(dir, "state")); err != nil || !info.IsDir() {
		return why
	}
	killed, err := o.engine.EmergencyStop(ctx, startup.Stopping{DataDir: dir, By: fmt.Sprintf("uid:%d", os.Geteuid()), Reason: o.reason})
	if err != nil {
		return here(err)
	}
	if o.json() {
		return printJSON(o.Out, map[string]any{"host": "does not answer", "stopped": true, "killed": killed})
	}
	o.say("the host does not answer; %s that it had started killed without it\n", count(int64(killed), "process", "processes"))
	o.note("every token is refused, and nothing comes up before `sop resume`\n")
	return nil
}

func (o *emergencyStopOptions) show(r *apiv1.EmergencyStopResponse) error {
	if o.json() {
		return printJSON(o.Out, map[string]wire{"emergency": {r}})
	}
	o.say("stopped: tokens refused after %s, everything dead after %s\n", took(r.GetTokensRefusedAfter().AsDuration()), took(r.GetDeadAfter().AsDuration()))
	o.say("%s killed, %s revoked\n", count(r.GetComponentsKilled(), "component", "components"), count(r.GetTokensRevoked(), "token", "tokens"))
	for _, p := range r.GetProblems() {
		o.note("%s %s\n", o.palette(o.ErrTerminal).Paint(term.Red, "!"), term.Safe(p))
	}
	return nil
}

// confirm has a person type a word.
func (a *app) confirm(word string) error {
	a.note("This kills every component, plugin and sandbox of the host, and revokes every token.\nType %q to go on: ", word)
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if strings.TrimSpace(line) == word {
		return nil
	}
	if err != nil && line == "" {
		return usagef("nobody confirmed").WithRemedy("type %q when asked, or say --yes", word)
	}
	return sdk.Errorf(codes.Canceled, "NOT_CONFIRMED", "not confirmed; nothing was stopped")
}
