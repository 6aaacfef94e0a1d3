package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

var (
	caller   atomic.Pointer[sdk.Host]
	previous atomic.Pointer[string] // the token of the scan before
)

// floodCalls is how many requests callBack makes at most: more than a token is good
// for.
const floodCalls = 1500

// callBack asks the host for something and says in a diagnostic what came of
// it: reasons with how often each came, "" for success.
func callBack(s stream, start *pluginv1.ScanStart, what string) error {
	ctx, host, secret := s.Context(), caller.Load(), start.GetToken()
	report := func(secret string) error {
		_, err := host.ReportGap(ctx, &pluginv1.ReportGapRequest{Token: secret, Workspace: start.GetWorkspace(), Finding: finding("README.md")})
		return err
	}
	var err error
	switch what {
	case "report":
		err = report(secret)
	case "audit":
		_, err = host.AppendAudit(ctx, &pluginv1.AppendAuditRequest{
			Token: secret, Workspace: start.GetWorkspace(), Action: "test.done", Resource: "workspace/" + start.GetWorkspace(), Outcome: "success", Reason: "as it was told",
		})
	case "nowhere":
		_, err = host.ReportGap(ctx, &pluginv1.ReportGapRequest{Token: secret, Workspace: start.GetWorkspace(), Finding: finding("../outside")})
	case "no-token":
		err = report("")
	case "given": // a token that the test has put there
		var given []byte
		if given, err = os.ReadFile(filepath.Join(start.GetRoot(), "hostile.token")); err == nil {
			err = report(strings.TrimSpace(string(given)))
		}
	case "stale":
		err = report(*previous.Load())
	case "issue":
		_, err = host.IssueToken(ctx, &apiv1.IssueTokenRequest{Spec: &apiv1.TokenSpec{Type: "operation", Operations: []string{"*"}}})
	case "validate", "consume":
		err = present(ctx, host, start, what == "consume")
	case "show", "list", "renew", "revoke":
		err = manage(ctx, host, what)
	case "delegate":
		err = delegate(ctx, host, secret, report)
	case "flood":
		return say(s, what, flooding(func() error { return report(secret) }))
	}
	previous.Store(&secret)
	return say(s, what, map[string]int{reason(err): 1})
}

// present has the token of the scan judged for one of its operations, and used
// if told to; and it must be refused for what it does not cover.
func present(ctx context.Context, host *sdk.Host, start *pluginv1.ScanStart, consume bool) error {
	ask := func(use *apiv1.TokenUse) (remaining int64, err error) {
		if consume {
			answer, err := host.ConsumeToken(ctx, &apiv1.ConsumeTokenRequest{Secret: start.GetToken(), Use: use})
			return answer.GetRemaining(), err
		}
		answer, err := host.ValidateToken(ctx, &apiv1.ValidateTokenRequest{Secret: start.GetToken(), Use: use})
		return answer.GetToken().GetRemaining(), err
	}
	use := &apiv1.TokenUse{Protocol: "sop", Operation: "scaffold.read", Workspace: start.GetWorkspace()}
	before, err := ask(use)
	if err != nil {
		return err
	}
	if _, err := ask(&apiv1.TokenUse{Protocol: "sop", Operation: "token.issue", Workspace: start.GetWorkspace()}); reason(err) != "PermissionDenied/TOKEN_DENIED" {
		return fmt.Errorf("for what it does not cover: %w", err)
	}
	if _, err := ask(&apiv1.TokenUse{Protocol: "sop", Operation: "scaffold.read", Workspace: "elsewhere"}); reason(err) != "PermissionDenied/TOKEN_DENIED" {
		return fmt.Errorf("for another workspace: %w", err)
	}
	after, err := ask(use)
	if err == nil && (before-after != 0) != consume {
		err = fmt.Errorf("%d uses were left, and then %d", before, after)
	}
	return err
}

// manage asks for what looks after tokens, which is not for who holds one.
func manage(ctx context.Context, host *sdk.Host, what string) (err error) {
	const id = "4kFz0aYt2QmB91xw"
	switch what {
	case "show":
		_, err = host.GetToken(ctx, &apiv1.GetTokenRequest{Id: id})
	case "list":
		_, err = host.ListTokens(ctx, &apiv1.ListTokensRequest{})
	case "renew":
		_, err = host.RenewToken(ctx, &apiv1.RenewTokenRequest{Id: id})
	case "revoke":
		_, err = host.RevokeToken(ctx, &apiv1.RevokeTokenRequest{Id: id})
	}
	return err
}

// delegate hands a part of the token on and works with that.
func delegate(ctx context.Context, host *sdk.Host, secret string, report func(string) error) error {
	child, err := host.IssueChildToken(ctx, &apiv1.IssueChildTokenRequest{
		Secret: secret, Spec: &apiv1.TokenSpec{Operations: []string{"gap.report"}},
	})
	if err != nil {
		return err
	}
	if err := report(child.GetSecret()); err != nil {
		return err
	}
	if err := report(child.GetSecret()); err == nil {
		return fmt.Errorf("a child of one use was good for two")
	}
	return nil
}

// flooding makes many requests at a time and counts what comes of them.
func flooding(f func() error) map[string]int {
	var mu sync.Mutex
	count := make(map[string]int)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range floodCalls / 50 {
				r := reason(f())
				mu.Lock()
				count[r]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return count
}

func reason(err error) string {
	if err == nil {
		return "ok"
	}
	e := sdk.FromError(err)
	return e.Code.String() + "/" + e.Reason
}

func say(s stream, what string, count map[string]int) error {
	var b strings.Builder
	for _, r := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, " %s=%d", r, count[r])
	}
	return s.Send(&pluginv1.ScanResponse{Diagnostics: []*pluginv1.ScanDiagnostic{{Reason: "CALLBACK", Message: what + b.String()}}})
}
