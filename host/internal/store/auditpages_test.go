package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/audit"
)

// paged makes a database whose log fills some pages, one record of them more
// than a page, and returns its file.
func paged(f *testing.F) []byte {
	f.Helper()
	ctx := context.Background()
	path := filepath.Join(f.TempDir(), "sop.db")
	db, err := Open(ctx, path)
	if err != nil {
		f.Fatal(err)
	}
	records := make([]audit.Record, 40)
	for i := range records {
		records[i] = audit.Record{
			Actor: fmt.Sprint("a", i), Action: "x.y", Resource: strings.Repeat("r", i), Outcome: audit.Success,
			Attributes: map[string]string{"k": strings.Repeat("v", 10*i), "ü": `"`},
		}
	}
	for i := range 6 { // more than one page holds
		records[20].Attributes[fmt.Sprint("large", i)] = strings.Repeat("x", 1000)
	}
	if err := db.Audit().Append(ctx, records...); err != nil {
		f.Fatal(err)
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return file
}

// FuzzAuditPages changes the bytes of a database: reading its pages ends without
// a panic, and what it takes in as the log is what reading row by row returns.
func FuzzAuditPages(f *testing.F) {
	file := paged(f)
	const pageSize = 4096
	pages := len(file) / pageSize
	for page := 0; page < pages; page += 4 {
		if kind := file[page*pageSize]; kind == leafPage || kind == interiorPage {
			for _, at := range []uint16{0, 3, 5, 8, 12, pageSize - 40} {
				f.Add(uint16(page), at, []byte{0xff})
				f.Add(uint16(page), at, []byte{0, 1, 0, 2, 0x80, 0xff})
			}
		}
	}
	path := filepath.Join(f.TempDir(), "sop.db")
	f.Fuzz(func(t *testing.T, page, at uint16, patch []byte) {
		changed := append([]byte(nil), file...)
		where := int(page)%pages*pageSize + int(at)%pageSize
		copy(changed[where:], patch)
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := OpenReadOnly(t.Context(), path)
		if err != nil {
			return // no database any more
		}
		defer func() { _ = db.Close() }() // only read
		quick := taken(t, db)
		n := 0
		for r, err := range db.Audit().Records(t.Context(), 1) {
			if err != nil {
				return // the ordinary way reports it
			}
			if n == len(quick) {
				return // what follows is left to the ordinary way
			}
			d := quick[n]
			if n++; d.Unread {
				continue
			}
			if r.Seq != d.Seq || r.PrevHash != d.Prev || r.Hash != d.Said || hashOf(r) != d.Sum {
				t.Fatalf("record %d: by its page %+v, by its row %+v", n, d, r)
			}
		}
		if n < len(quick) {
			t.Errorf("%d records by pages and %d by rows", len(quick), n)
		}
	})
}

// FuzzAuditPage reads a page of any bytes: there is no panic, and each row that its
// header speaks of is one record at least.
func FuzzAuditPage(f *testing.F) {
	file := paged(f)
	const pageSize = 4096
	for at := 0; at+pageSize <= len(file); at += pageSize {
		if kind := file[at]; kind == leafPage || kind == interiorPage {
			f.Add(file[at:at+pageSize], byte(0))
		}
	}
	f.Fuzz(func(t *testing.T, page []byte, reserved byte) {
		if len(page) < 512 || len(page) > pageSize {
			return
		}
		p := &pager{usable: len(page) - int(reserved)}
		if got, usual := p.rows([][]byte{page}, nil); usual && len(got) < int(page[3])<<8|int(page[4]) {
			t.Errorf("%d records", len(got))
		}
		_, _ = p.children(page, nil) // errors are fine
	})
}

// taken returns what a verification would take in of the pages of a log: what is
// numbered as it must be.
func taken(t *testing.T, db *DB) (out []audit.Digest) {
	t.Helper()
	for batch, err := range db.Audit().Digests(t.Context()) {
		if err != nil {
			return out
		}
		for _, d := range batch {
			if d.Seq != uint64(len(out)+1) {
				return out
			}
			out = append(out, d)
		}
	}
	return out
}

func hashOf(r *audit.Record) audit.Hash { return sha256.Sum256(r.Canonical()) }
