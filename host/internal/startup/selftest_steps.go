package startup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// selfTestWorkspace is what the scratch workspace is called.
const selfTestWorkspace = "selftest"

// awaitOK waits until the host says that all is well.
func (t *selfTest) awaitOK(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, serviceLimit)
	defer cancel()
	stream, err := t.apis.host.WatchStatus(ctx, connect.NewRequest(&apiv1.WatchStatusRequest{}))
	if err != nil {
		return "", err
	}
	defer func() { _ = stream.Close() }() // all that is of interest has been read
	var last *apiv1.Status
	for stream.Receive() {
		if last = stream.Msg().GetStatus(); last.GetState() == "ok" {
			return fmt.Sprintf("a host with %s in service", numbered(len(last.GetPlugins()), "plugin")), nil
		}
	}
	return "", errors.Join(fmt.Errorf("the host is %s: %s", last.GetState(), strings.Join(last.GetReasons(), "; ")), stream.Err())
}

// selfTestUses is how many uses the token has whose life is gone through.
const selfTestUses = 3

// tokens goes through the life of `test` tokens: one is used up, one revoked.
func (t *selfTest) tokens(ctx context.Context) (string, error) {
	use := &apiv1.TokenUse{Protocol: nexus.ProtocolSOP, Operation: "gap.read"}
	first, err := t.issue(ctx, selfTestUses, use.GetOperation())
	if err != nil {
		return "", err
	}
	if _, err := t.apis.token.ValidateToken(ctx, connect.NewRequest(&apiv1.ValidateTokenRequest{Secret: first.GetSecret(), Use: use})); err != nil {
		return "", err
	}
	foreign := &apiv1.TokenUse{Protocol: nexus.ProtocolSOP, Operation: "backup.create"}
	if err := t.refused(ctx, first, foreign, token.ReasonWrongOperation); err != nil {
		return "", err
	}
	for left := int64(selfTestUses - 1); left >= 0; left-- {
		used, err := t.apis.token.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: first.GetSecret(), Use: use}))
		if err != nil {
			return "", err
		}
		if used.Msg.GetRemaining() != left {
			return "", fmt.Errorf("%d uses of a token remain, and there should be %d", used.Msg.GetRemaining(), left)
		}
	}
	if err := t.refused(ctx, first, use, token.ReasonExhausted); err != nil {
		return "", err
	}
	second, err := t.issue(ctx, selfTestUses, use.GetOperation())
	if err != nil {
		return "", err
	}
	if err := t.revoke(ctx, second); err != nil {
		return "", err
	}
	if err := t.refused(ctx, second, use, token.ReasonRevoked); err != nil {
		return "", err
	}
	return fmt.Sprintf("issued, validated, used %d times, then refused as %s; another revoked, then refused as %s", selfTestUses, token.ReasonExhausted, token.ReasonRevoked), nil
}

// issue has a `test` token issued to this caller.
func (t *selfTest) issue(ctx context.Context, uses int64, operations ...string) (*apiv1.IssueTokenResponse, error) {
	answer, err := t.apis.token.IssueToken(ctx, connect.NewRequest(&apiv1.IssueTokenRequest{Spec: &apiv1.TokenSpec{
		Type: string(token.Test), Protocol: nexus.ProtocolSOP, Operations: operations, MaxUses: uses, Reason: "self-test",
	}}))
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}

func (t *selfTest) revoke(ctx context.Context, issued *apiv1.IssueTokenResponse) error {
	_, err := t.apis.token.RevokeToken(ctx, connect.NewRequest(&apiv1.RevokeTokenRequest{Id: issued.GetToken().GetId(), Reason: "the self-test has ended"}))
	return err
}

// refused asserts that a use is refused for this reason, and not granted.
func (t *selfTest) refused(ctx context.Context, issued *apiv1.IssueTokenResponse, use *apiv1.TokenUse, reason string) error {
	_, err := t.apis.token.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: issued.GetSecret(), Use: use}))
	if err == nil {
		return fmt.Errorf("a use of a token was granted that was to be refused as %s", reason)
	}
	if e := explained(err); e.Reason != reason {
		return fmt.Errorf("a use of a token was refused as %s, and not as %s: %s", e.Reason, reason, e.Message)
	}
	return nil
}

// under makes a request under a `test` token for an operation: a use of it is
// taken, and it is presented with the request.
func under[Q, A any](ctx context.Context, t *selfTest, operation string, call func(context.Context, *connect.Request[Q]) (*connect.Response[A], error), q *Q) (*A, error) {
	issued, err := t.issue(ctx, 2, operation)
	if err != nil {
		return nil, err
	}
	use := &apiv1.TokenUse{Protocol: nexus.ProtocolSOP, Operation: operation}
	if _, err := t.apis.token.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: issued.GetSecret(), Use: use})); err != nil {
		return nil, err
	}
	request := connect.NewRequest(q)
	request.Header().Set("Sop-Token", issued.GetSecret())
	answer, err := call(ctx, request)
	if err != nil {
		return nil, err
	}
	return answer.Msg, t.revoke(ctx, issued)
}

// gaps has the workspace scanned: the gaps that are known are found, and no
// others; those that are mended are gone with the next scan, and no others.
func (t *selfTest) gaps(ctx context.Context) (string, error) {
	if err := t.scan(ctx); err != nil {
		return "", err
	}
	if err := t.wantGaps(ctx, knownGaps()); err != nil {
		return "", err
	}
	mended := knownGaps()
	if err := mendSelfTestTree(t.work()); err != nil {
		return "", err
	}
	if err := t.scan(ctx); err != nil {
		return "", err
	}
	mended = slices.DeleteFunc(mended, func(g string) bool { return slices.Contains(mendedGaps, g) })
	if err := t.wantGaps(ctx, mended); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d known gaps found and nothing else; %d mended ones resolved", len(knownGaps()), len(knownGaps()), len(mendedGaps)), nil
}

func (t *selfTest) scan(ctx context.Context) error {
	answer, err := under(ctx, t, "workspace.scan", t.apis.workspace.ScanWorkspace, &apiv1.ScanWorkspaceRequest{Workspace: selfTestWorkspace})
	if err != nil {
		return err
	}
	if scan := answer.GetScan(); !scan.GetComplete() || scan.GetError() != "" {
		return fmt.Errorf("the scan is not complete: %s %v", scan.GetError(), scan.GetDiagnostics())
	}
	return nil
}

// wantGaps compares the gaps that stand open with those that should.
func (t *selfTest) wantGaps(ctx context.Context, want []string) error {
	answer, err := under(ctx, t, "gap.read", t.apis.gap.ListGaps, &apiv1.ListGapsRequest{Workspace: selfTestWorkspace, States: []string{"open"}})
	if err != nil {
		return err
	}
	var got []string
	for _, g := range answer.GetGaps() {
		got = append(got, g.GetRule()+" "+g.GetPath())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("the gaps found are %q, and those that are there are %q", got, want)
	}
	return nil
}

// backups saves the workspace, damages it, and restores it: byte for byte, with
// modes and links.
func (t *selfTest) backups(ctx context.Context) (string, error) {
	before, err := fingerprint(t.work())
	if err != nil {
		return "", err
	}
	saved, err := under(ctx, t, "backup.create", t.apis.backup.CreateBackup, &apiv1.CreateBackupRequest{Workspace: selfTestWorkspace})
	if err != nil {
		return "", err
	}
	if err := damageSelfTestTree(t.work()); err != nil {
		return "", err
	}
	damaged, err := fingerprint(t.work())
	if err != nil {
		return "", err
	}
	id := saved.GetBackup().GetId()
	restored, err := under(ctx, t, "backup.restore", t.apis.backup.RestoreBackup, &apiv1.RestoreBackupRequest{Id: id, InPlace: true, Overwrite: true})
	if err != nil {
		return "", err
	}
	after, err := fingerprint(t.work())
	switch {
	case err != nil:
		return "", err
	case restored.GetFailed() > 0:
		return "", fmt.Errorf("%s could not be restored: %v", numbered(int(restored.GetFailed()), "path"), restored.GetFailures())
	case damaged == before:
		return "", errors.New("the workspace was not damaged, and so nothing was tried")
	case after != before:
		return "", errors.New("what was restored is not what was saved")
	}
	return fmt.Sprintf("%s, %s saved, damaged and restored byte for byte", numbered(int(restored.GetFiles()), "file"), bytesText(uint64(restored.GetBytes()))), nil
}

// sandbox runs a command on a view of the workspace, which stays as it is.
func (t *selfTest) sandbox(ctx context.Context) (string, error) {
	if t.dir == "" {
		return "", skippedError{"there is no workspace to test it on"}
	}
	const made = "made-inside"
	run, err := runSandbox(ctx, SandboxRequest{Workspace: t.work(), Argv: []string{"/bin/sh", "-c", "echo inside > " + made}})
	if err != nil {
		return "", err
	}
	if run.Status == sandbox.Refused {
		return "", skippedError{"this machine does not allow the default profile: " + run.Refusal.String()}
	}
	if run.Status != sandbox.Exited || run.ExitCode != 0 {
		return "", fmt.Errorf("the command ended as %s with %d: %s", run.Status, run.ExitCode, run.Stderr.Text)
	}
	if len(run.Changes) != 1 || run.Changes[0].Path != made {
		return "", fmt.Errorf("the command made %s, and its changes are %v", made, run.Changes)
	}
	if _, err := os.Lstat(filepath.Join(t.work(), made)); err == nil {
		return "", fmt.Errorf("the command wrote to the workspace itself")
	}
	return fmt.Sprintf("level %s: one change worked out, the workspace untouched", run.Level), nil
}

// audit has the log of all that verified.
func (t *selfTest) audit(ctx context.Context) (string, error) {
	answer, err := t.apis.audit.Verify(ctx, connect.NewRequest(&apiv1.VerifyRequest{}))
	if err != nil {
		return "", err
	}
	if f := answer.Msg.GetFault(); f != nil {
		return "", fmt.Errorf("the audit log is not intact: %s: %s", f.GetKind(), f.GetDetail())
	}
	return fmt.Sprintf("%s of the test intact", numbered(int(answer.Msg.GetRecords()), "record")), nil
}
