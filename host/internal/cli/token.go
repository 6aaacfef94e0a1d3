package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// The types and states of tokens, as the API names them.
var (
	tokenTypes  = []string{"operation", "todo", "integration", "test"}
	tokenStates = []string{"pending", "active", "completed", "expired", "revoked"}
)

func (a *app) newTokenCommand() *cobra.Command {
	return a.newGroup("token", "Issue, use and revoke tokens",
		`A token permits an agent some operations, some times, for some time. Its secret is shown once, when it is
issued; its accessor, which is no secret, names it from then on. Commands that need a secret read it from
standard input or a file, never from their arguments.`,
		a.newTokenIssueCommand(), a.newTokenChildCommand(), a.newTokenValidateCommand(), a.newTokenConsumeCommand(),
		a.newTokenRenewCommand(), a.newTokenRevokeCommand(), a.newTokenListCommand(), a.newTokenShowCommand())
}

// secretForm is how secrets begin: of tokens, and keys of agents.
var secretForm = regexp.MustCompile(`sop(_[a-z]|k)_[0-9A-Za-z]{4}`)

// withoutSecrets refuses a secret among the arguments before anything else is
// said of them.
func withoutSecrets(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if slices.ContainsFunc(args, secretForm.MatchString) {
			return usagef("a secret is no argument: other processes and the shell's history would see it").
				WithRemedy("give it on standard input or in a file, or name what it belongs to; revoke this one if others could have seen it")
		}
		return check(cmd, args)
	}
}

// secretArguments checks the argument of commands that read a secret.
var secretArguments = withoutSecrets(arguments(0, 1, "FILE"))

const maxSecretFile = 4096 // bytes

// readSecret reads a secret from a file, or from standard input when there is
// no argument or it is "-".
func (a *app) readSecret(args []string) (string, error) {
	in, name := a.In, "standard input"
	if len(args) > 0 && args[0] != "-" {
		file, err := os.Open(args[0])
		if err != nil {
			return "", here(err)
		}
		defer func() { _ = file.Close() }() // it was only read
		in, name = file, args[0]
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSecretFile+1))
	if err != nil {
		return "", here(fmt.Errorf("read the token from %s: %w", name, err))
	}
	text = bytes.TrimSpace(text)
	switch {
	case len(text) == 0:
		return "", usagef("there is no token on %s", name).WithRemedy("give the secret on standard input, or name a file that holds it")
	case len(text) > maxSecretFile:
		return "", usagef("what is on %s is too long for a token", name)
	}
	return string(text), nil
}

// tokenSpecFlags are the flags of commands that issue.
type tokenSpecFlags struct {
	spec         apiv1.TokenSpec
	ttl, maxLife time.Duration
	from         string
}

func (f *tokenSpecFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.spec.Operations, "operation", nil, "`operations` that it permits; * is any")
	flags.StringVar(&f.spec.Protocol, "protocol", "", "only for this `protocol`")
	flags.StringVar(&f.spec.Task, "task", "", "only for this task, by `id`")
	flags.StringArrayVar(&f.spec.Paths, "path", nil, "only for this `pattern` of paths and all beneath it, relative to the workspace")
	flags.StringVarP(&f.spec.Workspace, "workspace", "w", "", "only for this workspace, by `name`")
	flags.StringVar(&f.spec.Requester, "requester", "", "`agent` that may use it (default: you)")
	flags.DurationVar(&f.ttl, "ttl", 0, "how long it lives, a `time` such as 30m (default: what suits the type)")
	flags.DurationVar(&f.maxLife, "max-life", 0, "how far it can be renewed, a `time` from now")
	flags.Int64Var(&f.spec.MaxUses, "uses", 0, "how often it can be used, a `number` (default: what suits the type)")
	flags.StringVar(&f.from, "from", "", "it cannot be used before a `time` (2026-12-31, RFC 3339), or how long from now (12h, 90d)")
	flags.StringVar(&f.spec.Reason, "reason", "", "what for, in `words`, for its history")
}

func (f *tokenSpecFlags) read(now time.Time) (*apiv1.TokenSpec, error) {
	switch {
	case f.ttl < 0:
		return nil, usagef("--ttl must not be negative")
	case f.maxLife < 0:
		return nil, usagef("--max-life must not be negative")
	case f.spec.MaxUses < 0:
		return nil, usagef("--uses must not be negative")
	}
	if f.ttl > 0 {
		f.spec.Ttl = durationpb.New(f.ttl)
	}
	if f.maxLife > 0 {
		f.spec.MaxLife = durationpb.New(f.maxLife)
	}
	if f.from != "" {
		t, ok := readTime(now, f.from)
		if !ok {
			return nil, usagef("--from: %q is no time", f.from).WithRemedy("write 2026-12-31, 2026-12-31T18:00:00Z, 12h or 90d")
		}
		f.spec.NotBefore = timestamppb.New(t)
	}
	return &f.spec, nil
}

// tokenUseFlags are the flags of commands that present a token.
type tokenUseFlags struct{ use apiv1.TokenUse }

func (f *tokenUseFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.use.Operation, "operation", "", "for this `operation`")
	flags.StringVar(&f.use.Protocol, "protocol", "", "over this `protocol`")
	flags.StringVar(&f.use.Task, "task", "", "for this task, by `id`")
	flags.StringArrayVar(&f.use.Paths, "path", nil, "for this `path` in the workspace; may be given again")
	flags.StringVarP(&f.use.Workspace, "workspace", "w", "", "in this workspace, by `name`")
	flags.StringVar(&f.use.Requester, "requester", "", "on behalf of this `agent`")
}

// printSecret writes what was issued: the secret alone to standard output, so
// that it can go straight to where it is kept, and the rest to people.
func (a *app) printSecret(secret string, t *apiv1.TokenRecord) error {
	if a.json() {
		if err := printJSON(a.Out, issuedToken{secret, wire{t}}); err != nil {
			return err
		}
	} else {
		a.say("%s\n", secret)
		a.note("%s token %s for %s, %s, until %s\n", term.Safe(t.GetType()), term.Safe(t.GetAccessor()), term.Safe(t.GetRequester()),
			count(t.GetMaxUses(), "use", "uses"), clockTime(t.GetExpiresAt()))
	}
	a.note("%s the secret is shown this once and is kept nowhere; put it where only its user can read it\n",
		a.palette(a.ErrTerminal).Paint(term.Yellow, "warning:"))
	return nil
}

type issuedToken struct {
	Secret string `json:"secret"`
	Token  wire   `json:"token"`
}

// printToken writes one token with all there is to know.
func (a *app) printToken(t *apiv1.TokenRecord) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"token": {t}})
	}
	palette := a.palette(a.OutTerminal)
	a.say("%s  %s token %s\n", palette.Paint(tokenStyle(t.GetState()), term.Safe(t.GetState())), term.Safe(t.GetType()),
		palette.Paint(term.Bold, term.Safe(t.GetAccessor())))
	for _, f := range a.tokenFields(t) {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], 12), term.Safe(f[1]))
		}
	}
	if len(t.GetHistory()) > 0 {
		a.say("\nhistory\n")
	}
	for _, c := range t.GetHistory() {
		line := c.GetAt().AsTime().Format("2006-01-02 15:04:05") + "  " + c.GetAction()
		if c.GetBy() != "" {
			line += " by " + c.GetBy()
		}
		if c.GetReason() != "" {
			line += ": " + c.GetReason()
		}
		a.say("  %s\n", term.Safe(line))
	}
	return nil
}

func (a *app) tokenFields(t *apiv1.TokenRecord) [][2]string {
	fields := [][2]string{
		{"operations", strings.Join(t.GetOperations(), ", ")},
		{"protocol", t.GetProtocol()},
		{"requester", t.GetRequester()},
		{"task", t.GetTask()},
		{"paths", strings.Join(t.GetPaths(), ", ")},
		{"workspace", t.GetWorkspace()},
		{"uses", usesOf(t)},
		{"issued by", t.GetIssuedBy()},
		{"parent", t.GetParent()},
		{"reason", t.GetReason()},
		{"issued", ago(a.now(), t.GetCreatedAt())},
	}
	if t.GetNotBefore().AsTime().After(t.GetCreatedAt().AsTime()) {
		fields = append(fields, [2]string{"from", clockTime(t.GetNotBefore())})
	}
	fields = append(fields, [2]string{"expires", clockTime(t.GetExpiresAt())}, [2]string{"at most", clockTime(t.GetDeadline())})
	if t.GetLastUse() != nil {
		fields = append(fields, [2]string{"last use", ago(a.now(), t.GetLastUse())})
	}
	return append(fields, [2]string{"id", t.GetId()})
}

func usesOf(t *apiv1.TokenRecord) string {
	text := fmt.Sprintf("%d of %d left", t.GetRemaining(), t.GetMaxUses())
	if t.GetReserved() > 0 {
		text += fmt.Sprintf(", %d given to children", t.GetReserved())
	}
	return text
}

func clockTime(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format("2006-01-02 15:04:05 MST")
}

func tokenStyle(state string) term.Style {
	switch state {
	case "active":
		return term.Green
	case "pending":
		return term.Yellow
	case "revoked":
		return term.Red
	}
	return term.Faint
}
