package store_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/store/storetest"
)

// BenchmarkAppendWhileArchiving says how long who appends waits while a segment
// of 100 000 records is archived: at the median, at the 99th of a hundred and at
// worst.
func BenchmarkAppendWhileArchiving(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		log := longLog(b, 100_000)
		done := make(chan error, 1)
		b.StartTimer()
		go func() {
			_, err := log.Archive(b.Context(), audit.ArchiveRequest{Actor: "host", Before: time.Now(), Size: 100_000, Partial: true})
			done <- err
		}()
		report(b, appendUntil(b, log, done))
	}
}

func longLog(b *testing.B, n int) *audit.Log {
	b.Helper()
	dir := b.TempDir()
	db, err := store.Open(context.Background(), filepath.Join(dir, "sop.db"))
	db = closeLater(b, db, err)
	key, _ := storetest.AuditKey(b)
	log, err := audit.NewLog(audit.Options{Store: db.Audit(), Key: key, Dir: filepath.Join(dir, "archives")})
	if err != nil {
		b.Fatal(err)
	}
	for begin := range n / 1000 {
		batch := make([]audit.Record, 1000)
		for i := range batch {
			batch[i] = audit.Record{
				Time: time.Unix(int64(begin*1000+i), 0), Actor: "uid:1000", Action: "token.use", Resource: "token/0198f2a0-0000-7000-8000-000000000000",
				Outcome: audit.Success, RequestID: "0198f2a0-0000-7000-8000-000000000000", TraceID: strings.Repeat("a", 32),
				Attributes: map[string]string{"payload_bytes": "100", "payload_sha256": strings.Repeat("b", 64)},
			}
		}
		if err := log.Append(b.Context(), batch...); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := log.Checkpoint(b.Context()); err != nil {
		b.Fatal(err)
	}
	return log
}

// appendUntil returns how long each append took.
func appendUntil(b *testing.B, log *audit.Log, done <-chan error) (took []time.Duration) {
	b.Helper()
	for {
		select {
		case err := <-done:
			if err != nil {
				b.Fatal(err)
			}
			return took
		default:
		}
		begin := time.Now()
		if err := log.Append(b.Context(), audit.Record{Actor: "a"}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(at int) float64 { return float64(took[at].Microseconds()) / 1000 }
	b.ReportMetric(ms(len(took)/2), "p50-ms")
	b.ReportMetric(ms(len(took)*99/100), "p99-ms")
	b.ReportMetric(ms(len(took)-1), "worst-ms")
}
