package store_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/store/storetest"
)

func TestAuditSQLite(t *testing.T) {
	storetest.RunAudit(t, func(t *testing.T) storetest.AuditStores {
		db := open(t, filepath.Join(t.TempDir(), "sop.db"))
		return storetest.AuditStores{Audit: db.Audit(), Gaps: db.Gaps()}
	})
}

func TestAuditMemory(t *testing.T) {
	storetest.RunAudit(t, func(t *testing.T) storetest.AuditStores {
		db, err := store.OpenMemory(t.Context())
		db = closeLater(t, db, err)
		return storetest.AuditStores{Audit: db.Audit(), Gaps: db.Gaps()}
	})
}

// tamper changes the file behind the store's back, as somebody with access to
// it would.
func tamper(t testing.TB, path string, statements ...string) {
	t.Helper()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append([]string{"DROP TRIGGER IF EXISTS audit_records_stay", "DROP TRIGGER IF EXISTS audit_records_last"}, statements...) {
		if _, err := raw.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
}

// signedLog makes a database with n records, appended so many at a time and signed
// after every fifth time.
func signedLog(t testing.TB, n, together int) (path string, verifier note.Verifier) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sop.db")
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	key, verifier := storetest.AuditKey(t)
	log, err := audit.NewLog(audit.Options{Store: db.Audit(), Key: key})
	if err != nil {
		t.Fatal(err)
	}
	var records []audit.Record
	for i := range n {
		records = append(records, audit.Record{Actor: fmt.Sprint("a", i), Action: "x.y", Resource: "r", Outcome: audit.Success, Attributes: map[string]string{"k": "v"}})
	}
	times := 0
	for some := range slices.Chunk(records, together) {
		err := log.Append(t.Context(), some...)
		if times++; times%5 == 0 {
			_, signErr := log.Checkpoint(t.Context())
			err = errors.Join(err, signErr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path, verifier
}

// Whatever is changed in the file of a stored log, it is found by a reader who
// changes nothing, and the first bad record is named.
func TestTamperedStore(t *testing.T) {
	const n = 23
	path, verifier := signedLog(t, n, 1)
	findsTampering(t, path, verifier, func(rt *rapid.T, _ [][]byte) ([]string, int) {
		return drawTampering(rt, rapid.IntRange(1, n).Draw(rt, "record"), n)
	})
}

// The same where records stand together in rows.
func TestTamperedRows(t *testing.T) {
	const n, together = 60, 4
	path, verifier := signedLog(t, n, together)
	findsTampering(t, path, verifier, func(rt *rapid.T, rows [][]byte) ([]string, int) {
		if len(rows) != n/together {
			rt.Fatalf("%d rows", len(rows))
		}
		return drawRowTampering(rt, rows)
	})
}

// findsTampering draws changes of a database, in SQL and with the first record that
// they make bad, and expects that they are found.
func findsTampering(t *testing.T, path string, verifier note.Verifier, draw func(t *rapid.T, rows [][]byte) ([]string, int)) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows := auditRows(t, path)
	dir := t.TempDir()
	copies := 0
	rapid.Check(t, func(rt *rapid.T) {
		copies++
		victim := filepath.Join(dir, fmt.Sprint(copies, ".db"))
		if err := os.WriteFile(victim, before, 0o600); err != nil {
			rt.Fatal(err)
		}
		statements, first := draw(rt, rows)
		tamper(t, victim, statements...)
		db, err := store.OpenReadOnly(t.Context(), victim)
		if err != nil {
			rt.Fatal(err)
		}
		report, err := audit.VerifyStore(t.Context(), db.Audit(), verifier)
		if err := errors.Join(err, db.Close()); err != nil {
			rt.Fatal(err)
		}
		if report.Fault == nil || report.Fault.Seq != uint64(first) {
			rt.Fatalf("%q: the first bad record is %d; found %+v", statements, first, report.Fault)
		}
	})
	if _, err := os.Stat(filepath.Join(dir, "1.db-shm")); err == nil {
		t.Error("reading left a file")
	}
}

// auditRows are the rows of a log as they stand in its database, in order.
func auditRows(t testing.TB, path string) (all [][]byte) {
	t.Helper()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }() // only read
	rows, err := raw.Query("SELECT record FROM audit_records ORDER BY seq")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var row []byte
		if err := rows.Scan(&row); err != nil {
			t.Fatal(err)
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// drawRowTampering changes what stands in one row, or in two.
func drawRowTampering(t *rapid.T, rows [][]byte) (statements []string, first int) {
	var keys []int
	var records [][][]byte // of each row
	for seq, row := 1, 0; row < len(rows); row++ {
		keys, records = append(keys, seq), append(records, nil)
		var u audit.Unpacker
		for u.Open(int64(seq), rows[row]); u.More(); seq++ {
			before := u.Behind()
			u.Digest()
			records[row] = append(records[row], before[:len(before)-len(u.Behind())])
		}
	}
	row := rapid.IntRange(0, len(rows)-1).Draw(t, "row")
	at := rapid.IntRange(0, len(records[row])-1).Draw(t, "record of the row")
	there := records[row]
	first = keys[row] + at
	switch rapid.SampledFrom([]string{"edit", "take out", "cut", "append", "repeat", "swap", "swap across", "part", "move"}).Draw(t, "tampering") {
	case "edit": // one byte, wherever it stands
		there[at] = bytes.Clone(there[at])
		there[at][rapid.IntRange(0, len(there[at])-1).Draw(t, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
	case "take out":
		records[row] = slices.Delete(there, at, at+1)
	case "cut": // somewhere within a record
		records[row] = append(there[:at:at], there[at][:rapid.IntRange(1, len(there[at])-1).Draw(t, "left")])
	case "append":
		first = keys[row] + len(there)
		records[row] = append(there, []byte(rapid.SampledFrom([]string{"\x00", "text", string(there[0])}).Draw(t, "behind")))
	case "repeat": // the first of the next row, which stands there too
		row = min(row, len(rows)-2)
		first = keys[row+1] + 1
		records[row] = append(records[row], records[row+1][0])
	case "swap":
		at = min(at, len(there)-2)
		first = keys[row] + at
		there[at], there[at+1] = there[at+1], there[at]
	case "swap across":
		row = min(row, len(rows)-2)
		first = keys[row] + at
		records[row][at], records[row+1][at] = records[row+1][at], records[row][at]
	case "part": // as it may be, and then there is nothing in its second half
		at = max(at, 1)
		first = keys[row] + at
		records[row] = there[:at]
		statements = append(statements, fmt.Sprintf("INSERT INTO audit_records VALUES (%d, x'')", first))
	case "move":
		records[row] = there[at:]
		if first = keys[row]; at == 0 { // then to another place
			statements = append(statements, fmt.Sprintf("UPDATE audit_records SET seq = seq + 1 WHERE seq = %d", first))
			return statements, first
		}
	}
	for i := row; i <= min(row+1, len(rows)-1); i++ {
		statements = append(statements, fmt.Sprintf("UPDATE audit_records SET record = x'%x' WHERE seq = %d", bytes.Join(records[i], nil), keys[i]))
	}
	return statements, first
}

func drawTampering(t *rapid.T, i, n int) (statements []string, first int) {
	switch rapid.SampledFrom([]string{"edit", "form", "delete", "swap", "cut", "cut with head"}).Draw(t, "tampering") {
	case "edit": // one byte, wherever it stands
		at := fmt.Sprintf("(1 + %d %% length(record))", rapid.IntRange(0, 1000).Draw(t, "byte"))
		return []string{fmt.Sprintf(`UPDATE audit_records SET record = CAST(substr(record, 1, %[1]s - 1) ||
			CASE hex(substr(record, %[1]s, 1)) WHEN 'FE' THEN x'FD' ELSE x'FE' END || substr(record, %[1]s + 1) AS BLOB) WHERE seq = %[2]d`, at, i)}, i
	case "form":
		value := rapid.SampledFrom([]string{"x''", "'text'", "7", "zeroblob(150)", "zeroblob(9000)", "substr(record, 1, 40)", "CAST(record || x'00' AS BLOB)", "record || 'x'"}).Draw(t, "value")
		if strings.Contains(value, "||") {
			return []string{fmt.Sprintf("UPDATE audit_records SET record = %s WHERE seq = %d", value, i)}, i + 1 // in its place
		}
		return []string{fmt.Sprintf("UPDATE audit_records SET record = %s WHERE seq = %d", value, i)}, i
	case "delete":
		return []string{fmt.Sprintf("DELETE FROM audit_records WHERE seq = %d", i)}, i
	case "swap":
		i = min(i, n-1)
		j := rapid.IntRange(i+1, n).Draw(t, "other")
		return []string{
			fmt.Sprintf("UPDATE audit_records SET seq = -1 WHERE seq = %d", i),
			fmt.Sprintf("UPDATE audit_records SET seq = %d WHERE seq = %d", i, j),
			fmt.Sprintf("UPDATE audit_records SET seq = %d WHERE seq = -1", j),
		}, i
	case "cut":
		return []string{fmt.Sprintf("DELETE FROM audit_records WHERE seq >= %d", i)}, i
	}
	// The head goes too, as if nothing had been there: the checkpoints remember.
	i = min(i, n-n%5)
	return []string{fmt.Sprintf("DELETE FROM audit_records WHERE seq >= %d", i), "DELETE FROM audit_head"}, i
}

// A record that was put behind the end of the log is found, though the chain
// is whole with it.
func TestForgedEnd(t *testing.T) {
	path, verifier := signedLog(t, 7, 1)
	written, err := store.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	head, err := written.Audit().Head(t.Context())
	if err := errors.Join(err, written.Close()); err != nil {
		t.Fatal(err)
	}
	forged := &audit.Record{Actor: "me"}
	audit.Seal(t.Context(), &head, forged)
	tamper(t, path, fmt.Sprintf("INSERT INTO audit_records VALUES (8, x'%x')", forged.AppendStored(nil)))
	db, err := store.OpenReadOnly(t.Context(), path)
	db = closeLater(t, db, err)
	report, err := audit.VerifyStore(t.Context(), db.Audit(), verifier)
	if err != nil || report.Fault == nil || report.Fault.Seq != 8 {
		t.Errorf("%+v, %v", report.Fault, err)
	}
}

func TestReadOnly(t *testing.T) {
	path, verifier := signedLog(t, 7, 1)
	db, err := store.OpenReadOnly(t.Context(), path)
	db = closeLater(t, db, err)
	if report := storetest.VerifyAudit(t, db.Audit(), verifier); report.Records != 7 || report.Signed != 5 {
		t.Errorf("%+v", report)
	}
	_, err = store.OpenReadOnly(t.Context(), path+".gone")
	if err == nil {
		t.Error("a missing database was opened")
	}
	if _, err := os.Stat(path + ".gone"); err == nil {
		t.Error("a missing database was made")
	}
}

// auditUntilKilled appends records from many goroutines, saying each once it
// was acknowledged.
func auditUntilKilled(path string) {
	ctx := context.Background()
	db, err := store.Open(ctx, path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	log, err := audit.NewLog(audit.Options{Store: db.Audit(), Key: victimKey(filepath.Dir(path)), Every: 10})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go log.Run(ctx)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := 0; err == nil; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if err := log.Append(ctx, audit.Record{Actor: "victim", Action: "a", Resource: id, Outcome: audit.Success}); err != nil {
					return
				}
				fmt.Println(id)
			}
		})
	}
	wg.Wait()
	os.Exit(1)
}

func victimKey(dir string) *audit.Key {
	key, err := audit.LoadKey(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return key
}

// TestKilledLogLosesNothing kills a process that appends, over and over: every
// acknowledged record is there, none twice, and the log verifies.
func TestKilledLogLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sop.db")
	said := make(map[string]bool)
	kills := 20
	if os.Getenv("SOP_TEST_LONG") != "" {
		kills = 200
	}
	for range kills {
		for _, id := range killed(t, "STORE_TEST_AUDIT_VICTIM="+path, 5+rand.IntN(200)) {
			said[id] = true
		}
	}
	db := open(t, path)
	verifier, err := audit.ParseKey([]byte(victimKey(filepath.Dir(path)).Public))
	if err != nil {
		t.Fatal(err)
	}
	report := storetest.VerifyAudit(t, db.Audit(), verifier)
	found := make(map[string]int)
	for r, err := range db.Audit().Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		found[r.Resource]++
		if found[r.Resource] > 1 {
			t.Errorf("%s is there twice", r.Resource)
		}
	}
	for id := range said {
		if found[id] == 0 {
			t.Errorf("%s was acknowledged and is not there", id)
		}
	}
	t.Logf("%d kills, %d records acknowledged, %d there, %d checkpoints", kills, len(said), report.Records, report.Checkpoints)
}

// killed runs this test binary with env until it has said so many lines, kills
// it, and returns all that it said.
func killed(t *testing.T, env string, lines int) (said []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	whole := func(data []byte, _ bool) (int, []byte, error) { // a line that the kill cut is none
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			return 0, nil, nil
		}
		return i + 1, data[:i], nil
	}
	scanner.Split(whole)
	for scanner.Scan() {
		said = append(said, scanner.Text())
		if len(said) == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(said) < lines {
		t.Fatalf("the writer ended by itself after %d lines: %v", len(said), err)
	}
	return said
}
