package cli

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type tokenListOptions struct {
	*app
	filter apiv1.ListTokensRequest
	limit  int
}

func (a *app) newTokenListCommand() *cobra.Command {
	o := &tokenListOptions{app: a}
	cmd := &cobra.Command{
		Use:         "list",
		Aliases:     []string{"ls"},
		Short:       "List tokens, latest first",
		Long:        "List tokens, latest first, with the uses that each has left. Without --state that is all of them.",
		Example:     "  sop token list --state active\n  sop token list --requester agent-7 --type todo -o json",
		Args:        withoutSecrets(noArguments),
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.filter.Types, "type", nil, "only of these `types`: "+strings.Join(tokenTypes, ", "))
	flags.StringSliceVar(&o.filter.States, "state", nil, "only in these `states`: "+strings.Join(tokenStates, ", "))
	flags.StringVar(&o.filter.Requester, "requester", "", "only of this `agent`")
	flags.StringVar(&o.filter.Task, "task", "", "only for this task, by `id`")
	flags.IntVarP(&o.limit, "limit", "n", 0, "at most `number` tokens; 0 means all")
	addNarrowing(cmd, &o.filter.Filter, &o.filter.OrderBy, `type = todo AND remaining > 0`, "expires_at")
	a.completeWords(cmd, "type", tokenTypes...)
	a.completeWords(cmd, "state", tokenStates...)
	return cmd
}

func (o *tokenListOptions) run(ctx context.Context) error {
	if err := o.check(); err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	tokens, total, err := listTokens(ctx, c, &o.filter, o.limit)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"tokens": wires(tokens)})
	}
	return o.printTable(tokens, total)
}

func (o *tokenListOptions) check() error {
	if o.limit < 0 {
		return usagef("--limit must not be negative")
	}
	for _, t := range o.filter.Types {
		if err := oneOf("type", t, tokenTypes); err != nil {
			return err
		}
	}
	for _, s := range o.filter.States {
		if err := oneOf("state", s, tokenStates); err != nil {
			return err
		}
	}
	return nil
}

// listTokens asks page by page until it has limit tokens, or all when limit is
// 0. The second result says how many there are, counted to countedTokens.
func listTokens(ctx context.Context, c *client, filter *apiv1.ListTokensRequest, limit int) ([]*apiv1.TokenRecord, int64, error) {
	var tokens []*apiv1.TokenRecord
	var total int64
	for {
		filter.PageSize = largestPage
		if limit > 0 {
			filter.PageSize = int32(min(largestPage, limit-len(tokens)))
		}
		answer, err := c.token().ListTokens(ctx, connect.NewRequest(filter))
		if err != nil {
			return nil, 0, err
		}
		tokens = append(tokens, answer.Msg.GetTokens()...)
		total = max(total, answer.Msg.GetTotal()) // on the first page
		filter.PageToken = answer.Msg.GetNextPageToken()
		if filter.PageToken == "" || limit > 0 && len(tokens) >= limit {
			return tokens, total, nil
		}
	}
}

// countedTokens is how far the host counts them.
const countedTokens = 10_000

func (o *tokenListOptions) printTable(tokens []*apiv1.TokenRecord, total int64) error {
	if len(tokens) == 0 {
		o.say("no tokens\n")
		return nil
	}
	table := o.table(4, "ACCESSOR", "TYPE", "STATE", "REQUESTER", "OPERATIONS", "LEFT", "EXPIRES")
	table.Whole = []int{0}
	for _, t := range tokens {
		table.Row(term.Text(t.GetAccessor()), term.Text(t.GetType()), term.Styled(tokenStyle(t.GetState()), t.GetState()),
			term.Text(t.GetRequester()), term.Text(strings.Join(t.GetOperations(), ", ")),
			term.Text(fmt.Sprintf("%d of %d", t.GetRemaining(), t.GetMaxUses())), term.Text(clockTime(t.GetExpiresAt())))
	}
	if _, err := table.WriteTo(o.Out); err != nil {
		return err
	}
	if more := total - int64(len(tokens)); more > 0 {
		least := ""
		if total >= countedTokens {
			least = "at least "
		}
		o.note("%s%d more; raise --limit to see them\n", least, more)
	}
	return nil
}
