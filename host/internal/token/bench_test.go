package token_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/sop-host/sop/host/internal/token"
)

// fill stores n tokens.
func (s *site) fill(n int) {
	s.t.Helper()
	for done := 0; done < n; {
		err := s.db.Tokens().Update(s.ctx, func(tx token.Tx) error {
			var some []*token.Token
			for ; done < n && len(some) < 5000; done++ {
				some = append(some, &token.Token{
					ID: fmt.Sprintf("%08d-0000-7000-8000-000000000000", done), Accessor: fmt.Sprintf("%016d", done), Hash: []byte{1}, Type: token.Todo, State: token.StateActive,
					Operations: []string{"op"}, Requester: "agent", CreatedAt: start, NotBefore: start, ExpiresAt: start.AddDate(1, 0, 0), ChangedAt: start, MaxUses: 100,
				})
			}
			return tx.Put(s.ctx, some, nil)
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// BenchmarkConsume consumes durably: one hot token or many, by 1 and 64
// callers, beside 10k and 100k other tokens.
func BenchmarkConsume(b *testing.B) {
	for _, tokens := range []int{10_000, 100_000} {
		for _, callers := range []int{1, 64} {
			for _, hot := range []bool{true, false} {
				b.Run(fmt.Sprintf("tokens=%d/callers=%d/hot=%v", tokens, callers, hot), func(b *testing.B) {
					s := newSite(b)
					s.fill(tokens)
					var secrets []string
					for range 64 {
						secret, _ := s.issue(func(p *token.Spec) { p.MaxUses = 1_000_000 })
						secrets = append(secrets, secret)
					}
					b.ResetTimer()
					s.race(b, callers, func(i int) error {
						secret := secrets[0]
						if !hot {
							secret = secrets[i%len(secrets)]
						}
						_, err := s.Consume(s.ctx, secret, request)
						return err
					})
				})
			}
		}
	}
}

// race has callers do fn b.N times together.
func (s *site) race(b *testing.B, callers int, fn func(i int) error) {
	var next atomic.Int64
	done := make(chan error, callers)
	for range callers {
		go func() {
			for {
				i := int(next.Add(1))
				if i > b.N {
					done <- nil
					return
				}
				if err := fn(i); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkValidate(b *testing.B) {
	s := newSite(b)
	secret, _ := s.issue(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Validate(s.ctx, secret, request); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := newSite(b)
			s.race(b, callers, func(int) error {
				_, _, err := s.Issue(s.ctx, token.Spec{Type: token.Todo, Operations: []string{"op"}, Requester: "agent"})
				return err
			})
		})
	}
}
