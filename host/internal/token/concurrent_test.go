package token_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

func TestRetriesCountOnce(t *testing.T) {
	s := newSite(t)
	secret, tok := s.issue(func(p *token.Spec) { p.Type, p.TTL = token.Operation, time.Hour })
	r := with(func(r *token.Request) { r.Key = "k" })
	first, err := s.Consume(s.ctx, secret, r)
	if err != nil || first.Again {
		t.Fatal(err)
	}
	s.pass(token.AnswerLife - time.Second) // completed, and its life is over
	second, err := s.Consume(s.ctx, secret, r)
	if err != nil || !second.Again || second.Uses != first.Uses || !second.At.Equal(first.At) || second.State != first.State {
		t.Errorf("%+v, %v", second, err)
	}
	_, err = s.Consume(s.ctx, secret, with(func(r *token.Request) { r.Key, r.Task = "k", "other" }))
	wantReason(t, err, "IDEMPOTENCY_KEY_REUSED")
	_, err = s.Consume(s.ctx, secret, with(func(r *token.Request) { r.Key, r.Requester = "k", "thief" }))
	wantReason(t, err, token.ReasonWrongAgent)
	s.pass(time.Second)
	_, err = s.Consume(s.ctx, secret, r)
	wantReason(t, err, token.ReasonExhausted)
	if got := s.show(tok.ID); got.Uses != 1 {
		t.Errorf("%d uses", got.Uses)
	}
	_, err = s.Consume(s.ctx, secret, with(func(r *token.Request) { r.Key = strings.Repeat("k", 1000) }))
	wantReason(t, err, "TOKEN_REQUEST")
}

// Revocation is effective at once, for callers who have the token in memory.
func TestRevocationIsEffectiveAtOnce(t *testing.T) {
	s := newSite(t)
	for range 50 {
		secret, tok := s.issue(nil)
		done := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-done:
						if _, err := s.Validate(s.ctx, secret, request); err == nil {
							t.Error("valid after it was revoked")
						}
						return
					default:
						_, _ = s.Validate(s.ctx, secret, request) // either way
					}
				}
			})
		}
		if _, _, err := s.Revoke(s.ctx, tok.ID, "me", ""); err != nil {
			t.Error(err)
		}
		close(done)
		wg.Wait()
	}
}

// 64 callers never take more uses than there are, of a parent and its child.
func TestConcurrentUses(t *testing.T) {
	const most = 100
	s := newSite(t)
	secret, tok := s.issue(func(p *token.Spec) { p.MaxUses = most })
	var mu sync.Mutex
	taken, keys := 0, make(map[string]bool)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 4 {
				r := with(func(r *token.Request) { r.Key = fmt.Sprint(i/2, "-", j) }) // each key twice
				use, err := s.Consume(s.ctx, secret, r)
				mu.Lock()
				if err == nil {
					keys[r.Key] = true
					if !use.Again {
						taken++
					}
				} else if sdk.FromError(err).Reason != token.ReasonExhausted {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	got := s.show(tok.ID)
	if taken != most || len(keys) != most || got.Uses != most || got.State != token.StateCompleted {
		t.Errorf("%d taken with %d keys; %+v", taken, len(keys), got)
	}
}
