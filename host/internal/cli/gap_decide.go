package cli

import (
	"context"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// gapAnswer is what a host answers that has decided on a gap.
type gapAnswer interface{ GetGap() *apiv1.GapRecord }

// decide has the host decide on a gap, or with check say whether it would, and
// tells what became of it.
func (a *app) decide(ctx context.Context, check bool, what string, ask func(context.Context, apiv1connect.GapClient) (gapAnswer, error)) error {
	ctx, cancel := a.bounded(ctx, queryTimeout)
	defer cancel()
	c := a.connect()
	defer c.Close()
	answer, err := ask(ctx, c.gap())
	if err != nil {
		return err
	}
	if check {
		return a.would("the gap would be " + what)
	}
	return a.printDecision(what, answer.GetGap())
}

// message is what an answer holds; nil where there is none.
func message[T any](answer *connect.Response[T], err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}

// printDecision says in one line what became of a gap.
func (a *app) printDecision(what string, g *apiv1.GapRecord) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"gap": {g}})
	}
	until := ""
	if g.GetSuppressUntil() != nil && what == "suppressed" {
		until = " until " + g.GetSuppressUntil().AsTime().Format("2006-01-02 15:04 MST")
	}
	a.say("%s %s%s: %s, %s\n", what, term.Safe(g.GetId()), until, term.Safe(place(g.GetPath(), g.GetLine())), term.Safe(g.GetMessage()))
	return nil
}
