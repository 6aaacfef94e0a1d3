package bench

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
)

// auditRecords are records as a busy host writes them.
func auditRecords(from, n int) []audit.Record {
	out := make([]audit.Record, n)
	for i := range out {
		out[i] = audit.Record{
			Time: time.Unix(1_800_000_000, int64(from+i)), Actor: fmt.Sprint("uid:", 1000+i%7), Action: "token.consume",
			Resource: fmt.Sprintf("token/019cb000-0000-7000-8000-%012d", from+i), Outcome: audit.Success, Reason: "used",
			RequestID: fmt.Sprintf("0b2d3a3e-3a6b-4f6e-9a53-%012d", from+i), Token: fmt.Sprintf("acc%020d", (from+i)%1000),
			Attributes: map[string]string{"left": "3", "protocol": "SCP", "operation": "read"},
		}
	}
	return out
}

// bareHashing is SHA-256 over as many bytes as the records have, one after the
// other, in memory.
func bareHashing(t *testing.T, records []audit.Record, n int) time.Duration {
	t.Helper()
	var all [][]byte
	var head audit.Head
	for i := range records {
		audit.Seal(t.Context(), &head, &records[i])
		all = append(all, records[i].Canonical())
	}
	sum := byte(0)
	begin := time.Now()
	for i := range n {
		h := sha256.Sum256(all[i%len(all)])
		sum ^= h[0]
	}
	took := time.Since(begin)
	t.Logf("bench  bare hashing: %d records of %d bytes, %s a record (%d)", n, len(all[0]), took/time.Duration(n), sum&1)
	return took
}

// treeHashing is what the tree over n records takes beside: SHA-256 of a node, of
// two hashes and a prefix, for each record. Bare hashing leaves it out, and no
// verification can.
func treeHashing(n int) time.Duration {
	var pair [1 + 2*sha256.Size]byte
	begin := time.Now()
	for range n {
		h := sha256.Sum256(pair[:])
		copy(pair[1:], h[:])
	}
	return time.Since(begin)
}

// TestBenchAudit measures the audit log at a million records: what appending
// one costs, and verifying them all against bare hashing in the same run.
func TestBenchAudit(t *testing.T) {
	wanted(t)
	asHost(t)
	const n, together = 1_000_000, 1000
	path := filepath.Join(t.TempDir(), "sop.db")
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	key, err := audit.LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.NewLog(audit.Options{Store: db.Audit(), Key: key})
	if err != nil {
		t.Fatal(err)
	}
	var first, last time.Duration
	for i := 0; i < n; i += together {
		batch := auditRecords(i, together)
		begin := time.Now()
		if err := log.Append(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		if i < n/10 {
			first += took
		} else if i >= n-n/10 {
			last += took
		}
		if i%100_000 == 0 {
			if _, err := log.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	say(t, "audit append, the last 10% to the first", float64(last)/float64(first), "about 1", "%s and %s a record, %d at a time", last/(n/10), first/(n/10), together)
	if _, err := log.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	var whole, bare, used []time.Duration
	for range 3 {
		bare = append(bare, bareHashing(t, auditRecords(0, together), n))
		begin, cpu := time.Now(), ownCPU()
		report, err := log.Verify(t.Context())
		if err != nil || report.Fault != nil || report.Records != n {
			t.Fatal(report, err)
		}
		whole, used = append(whole, time.Since(begin)), append(used, ownCPU()-cpu)
	}
	w, b := median(whole), median(bare)
	say(t, "audit verify, 1M records in SQLite, to bare hashing", float64(w)/float64(b), "≤ 2", "%s a record, bare %s; %d cores", w/n, b/n, runtime.GOMAXPROCS(0))
	tree := treeHashing(n)
	say(t, "  to the hashing that it needs", float64(w)/float64(b+tree), "-", "%s a record with the node of the tree", (b+tree)/n)
	say(t, "CPU time of the same, on all cores", float64(median(used))/float64(b), "", "%s a record", median(used)/n)
	slow := time.Now()
	report, err := audit.VerifyStore(t.Context(), rowsOnly{db.Audit()}, verifier(t, key))
	if err != nil || report.Fault != nil {
		t.Fatal(report, err)
	}
	say(t, "the same row by row", float64(time.Since(slow))/float64(b), "", "%s a record", time.Since(slow)/n)
	benchArchive(t, db, key)
}

// benchArchive moves all of it to archives and verifies again.
func benchArchive(t *testing.T, db *store.DB, key *audit.Key) {
	t.Helper()
	log, err := audit.NewLog(audit.Options{Store: db.Audit(), Key: key, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	segments, err := log.Archive(t.Context(), audit.ArchiveRequest{Actor: "host", Before: time.Now().Add(100 * 365 * 24 * time.Hour), Size: audit.DefaultSegment})
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	took := time.Since(begin)
	size := int64(0)
	for i := range segments {
		size += segments[i].Bytes
	}
	records := segments[len(segments)-1].Last
	begin = time.Now()
	report, err := log.Verify(t.Context())
	if err != nil || report.Fault != nil {
		t.Fatal(report, err)
	}
	t.Logf("bench  audit archive: %d segments, %s a record, %d bytes a record; verifying the archives %s a record",
		len(segments), took/time.Duration(records), size/int64(records), time.Since(begin)/time.Duration(records))
}

// rowsOnly is a store whose pages are not read.
type rowsOnly struct{ audit.Store }

func verifier(t *testing.T, key *audit.Key) note.Verifier {
	t.Helper()
	v, err := audit.ParseKey([]byte(key.Public))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
