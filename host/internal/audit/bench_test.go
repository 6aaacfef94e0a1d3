package audit

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"
)

// The whole cost of verifying: against SHA-256 of the same bytes in the same
// run, records in memory.
func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, verifier := testKey(b)
			records, head := chain(n, nil)
			for b.Loop() {
				began := time.Now()
				var buf []byte
				sum := Hash{}
				for _, r := range records {
					buf = r.appendCanonical(buf[:0])
					sum = sha256.Sum256(buf)
				}
				bare := time.Since(began)
				bytes := make([][]byte, 0, 1000)
				for _, r := range records[:1000] {
					bytes = append(bytes, r.appendCanonical(nil))
				}
				began = time.Now()
				for i := range n {
					sum = sha256.Sum256(bytes[i%1000])
				}
				hashing := time.Since(began)
				began = time.Now()
				report, err := Verify(all(records), nil, verifier, &head)
				took := time.Since(began)
				if err != nil || report.Fault != nil || sum == (Hash{}) {
					b.Fatal(report, err)
				}
				b.ReportMetric(float64(took)/float64(n), "ns/record")
				b.ReportMetric(float64(took)/float64(hashing), "x-bare-sha256")
				b.ReportMetric(float64(took)/float64(bare), "x-encode+sha256")
			}
		})
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	key, _ := testKey(b)
	_, head := chain(1<<16-1, nil)
	for b.Loop() {
		if _, err := Sign(&head, time.Unix(0, 0), key); err != nil {
			b.Fatal(err)
		}
	}
}
