package patch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Verdict is what verification came to.
type Verdict struct {
	Passed          bool // every step
	CoverageLowered bool
	// Rule is the one in force now; the stricter of it and of the one that the patch
	// was proposed under counts. Empty: there is none.
	Rule   Rule
	Why    string          // for people: which step failed
	Detail json.RawMessage // steps, logs, times
}

// StartVerify says that verification has begun; also again, after whoever did it
// was lost.
func (s *Service) StartVerify(ctx context.Context, ref, by string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		if p.State == StateVerifying {
			return nil, nil
		}
		p.Passed, p.Approvals = false, nil
		return one(p.move(StateVerifying, Verifying, by, "verification has begun", now))
	})
}

// VerifyLost says that verification was broken off, and has to be begun again.
func (s *Service) VerifyLost(ctx context.Context, ref, by, why string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		return one(p.move(StateProposed, Lost, by, why, now))
	})
}

// Verified takes in the verdict about exactly one content.
func (s *Service) Verified(ctx context.Context, ref, hash, by string, v Verdict) (*Patch, error) {
	if len(v.Detail) > maxDocument || len(v.Detail) > 0 && !json.Valid(v.Detail) {
		return nil, invalid("verdict", "the verdict is no JSON, or over %d bytes", maxDocument)
	}
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		if err := p.is(hash); err != nil {
			return nil, err
		}
		if p.State != StateVerifying {
			return nil, sdk.Errorf(codes.FailedPrecondition, ReasonTransition, "patch %s is %s and is not being verified", p.ID, p.State).
				WithRemedy("%s", p.State.remedy())
		}
		p.Verdict, p.Passed = v.Detail, v.Passed
		p.Rule = stricter(p.Rule, v.Rule)
		if v.CoverageLowered {
			p.Risks = withRisk(p.Risks, RiskCoverageLowered)
		}
		if !v.Passed {
			return one(p.move(StateRejected, Rejected, by, or(v.Why, "it did not pass verification"), now))
		}
		return one(p.move(StateVerified, Verified, by, or(v.Why, "every step passed"), now))
	})
}

func one(c Change, err error) (*Change, error) {
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func or(text, instead string) string {
	if text == "" {
		return instead
	}
	return text
}

// is says whether somebody speaks of the content that the patch has.
func (p *Patch) is(hash string) error {
	if hash == p.Hash {
		return nil
	}
	return sdk.Errorf(codes.Aborted, ReasonChanged, "patch %s has the hash %.12s, and not %.12s", p.ID, p.Hash, hash).
		WithRemedy("look at it again: sop patch show %s", p.ID)
}

// VerifyAgain says that what was verified does not do any more, for a reason: it
// has to be verified once more, and approved then.
func (s *Service) VerifyAgain(ctx context.Context, ref, by, why string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		if p.State == StateProposed {
			return nil, nil
		}
		p.Passed, p.Approvals = false, nil
		return one(p.move(StateProposed, Reopened, by, why, now))
	})
}

// Tighten makes a rule that has become stricter hold for a patch that was verified
// under another. One that was approved, and by fewer than the rule asks for, waits
// for the others; the approvals that it has count. It changes nothing where the
// rule is none that asks for more, and where the patch is being integrated.
func (s *Service) Tighten(ctx context.Context, ref, by string, rule Rule) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		was := p.Rule
		if rule = stricter(was, rule); rule == was || p.State != StateVerified && p.State != StateApproved {
			return nil, nil
		}
		p.Rule = rule
		why := fmt.Sprintf("the rule asks for %q now, and asked for %q", rule, was)
		if n, needed := len(p.Approvals), p.Needed(); p.State == StateApproved && n < needed {
			return one(p.move(StateVerified, Tightened, by, fmt.Sprintf("%s: %d of %d have approved it", why, n, needed), now))
		}
		c := p.note(Tightened, by, why, now)
		return &c, nil
	})
}

// Withdraw takes back the approvals of agents that were revoked since. A patch that
// has too few without them waits for others. It changes nothing where there are none,
// and where the patch is being integrated.
func (s *Service) Withdraw(ctx context.Context, ref, by string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		if p.State != StateVerified && p.State != StateApproved {
			return nil, nil
		}
		gone := s.forget(p)
		if len(gone) == 0 {
			return nil, nil
		}
		n, needed := len(p.Approvals), p.Needed()
		why := fmt.Sprintf("%s approved it and was revoked: %d of %d have approved it", strings.Join(gone, ", "), n, needed)
		if p.State == StateApproved && n < needed {
			return one(p.move(StateVerified, Withdrawn, by, why, now))
		}
		c := p.note(Withdrawn, by, why, now)
		return &c, nil
	})
}

// Stands says whether a patch that is being integrated would be approved now: under
// a rule, and without the agents that were revoked since. Otherwise the error has
// [ReasonUnapproved]. Nothing is changed.
func (s *Service) Stands(ctx context.Context, ref string, rule Rule) error {
	_, err := s.check(ctx, ref, func(p *Patch, _ time.Time) (*Change, error) {
		p.Rule = stricter(p.Rule, rule)
		s.forget(p)
		if n, needed := len(p.Approvals), p.Needed(); n < needed {
			return nil, sdk.Errorf(codes.Aborted, ReasonUnapproved, "patch %s is not approved any more: %d of %d have approved it", p.ID, n, needed)
		}
		return nil, nil
	})
	return err
}

// forget drops the approvals of agents that were revoked, and returns their names.
func (s *Service) forget(p *Patch) (gone []string) {
	p.Approvals = slices.DeleteFunc(p.Approvals, func(a Approval) bool {
		revoked := s.opt.Revoked != nil && s.opt.Revoked(a.By)
		if revoked {
			gone = append(gone, a.By)
		}
		return revoked
	})
	return gone
}

// AutoApprove approves a patch whose rule says so, that has passed verification
// and bears no risk; it says whether it has. rule names the rule of the
// configuration.
func (s *Service) AutoApprove(ctx context.Context, ref, rule string) (*Patch, bool, error) {
	approved := false
	p, err := s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		approved = p.State == StateApproved
		if p.State != StateVerified || p.Rule != Auto || !p.Passed || p.Needed() > 0 {
			return nil, nil
		}
		approved = true
		return one(p.move(StateApproved, Approved, "rule:"+rule, "the rule approves what passes verification and bears no risk", now))
	})
	return p, approved && err == nil, err
}

// Approve is one agent's consent to exactly one content. The patch is approved
// when there are as many as its rule asks for, of agents that were not revoked. The
// proposer's own is refused, whatever policy says; the same agent's counts once.
func (s *Service) Approve(ctx context.Context, ref, hash, by, why string) (*Patch, error) {
	return s.update(ctx, ref, s.approve(hash, by, why))
}

// CheckApprove says whether Approve would be taken, and changes nothing.
func (s *Service) CheckApprove(ctx context.Context, ref, hash, by, why string) (*Patch, error) {
	return s.check(ctx, ref, s.approve(hash, by, why))
}

func (s *Service) approve(hash, by, why string) func(p *Patch, now time.Time) (*Change, error) {
	return func(p *Patch, now time.Time) (*Change, error) {
		if err := checkReason(why); err != nil {
			return nil, err
		}
		if err := p.is(hash); err != nil {
			return nil, err
		}
		if by == p.Proposer {
			return nil, sdk.Errorf(codes.PermissionDenied, ReasonOwn, "%s has proposed patch %s and cannot approve it", by, p.ID).
				WithRemedy("have somebody else look at it")
		}
		for _, a := range p.Approvals {
			if a.By == by && (p.State == StateVerified || p.State == StateApproved) {
				return nil, nil // once is enough
			}
		}
		if p.State != StateVerified {
			_, err := p.clone().move(StateApproved, Approved, by, why, now)
			if err == nil { // it can, and is not to: nothing goes past verification
				err = sdk.Errorf(codes.FailedPrecondition, ReasonTransition, "patch %s is %s", p.ID, p.State).WithRemedy("%s", p.State.remedy())
			}
			return nil, err
		}
		s.forget(p)
		p.Approvals = append(p.Approvals, Approval{By: by, Hash: hash, At: now.UTC(), Why: why})
		if n, needed := len(p.Approvals), p.Needed(); n < needed {
			c := p.note(Consented, by, or(why, fmt.Sprintf("%d of %d", n, needed)), now)
			return &c, nil
		}
		return one(p.move(StateApproved, Approved, by, or(why, "approved"), now))
	}
}

func checkReason(why string) error {
	if len(why) > maxReason {
		return invalid("reason", "the reason is longer than %d bytes", maxReason).WithRemedy("say it in fewer words")
	}
	return nil
}

// Deny ends a patch that is not being integrated, for a reason.
func (s *Service) Deny(ctx context.Context, ref, by, why string) (*Patch, error) {
	return s.update(ctx, ref, deny(by, why))
}

// CheckDeny says whether Deny would be taken, and changes nothing.
func (s *Service) CheckDeny(ctx context.Context, ref, by, why string) (*Patch, error) {
	return s.check(ctx, ref, deny(by, why))
}

func deny(by, why string) func(p *Patch, now time.Time) (*Change, error) {
	return func(p *Patch, now time.Time) (*Change, error) {
		if err := checkReason(why); err != nil {
			return nil, err
		}
		if strings.TrimSpace(why) == "" {
			return nil, invalid("reason", "there is no reason").WithRemedy("say why, for whoever tries again")
		}
		return one(p.move(StateDenied, Denied, by, why, now))
	}
}

// Reject gives a patch up that cannot be integrated, or is not to be any more.
func (s *Service) Reject(ctx context.Context, ref, by, why string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		return one(p.move(StateRejected, Rejected, by, why, now))
	})
}
