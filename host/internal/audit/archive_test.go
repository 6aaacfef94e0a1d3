package audit_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/store"
)

// site is a log in a database with a directory for archives.
type site struct {
	t        testing.TB
	path     string // of the database
	archives string
	db       *store.DB
	key      *audit.Key
	verifier note.Verifier
	log      *audit.Log
}

func newSite(t testing.TB) *site {
	dir := t.TempDir()
	s := &site{t: t, path: filepath.Join(dir, "sop.db"), archives: filepath.Join(dir, "archives")}
	t.Cleanup(s.close)
	s.open()
	return s
}

func (s *site) open() {
	s.t.Helper()
	var err error
	if s.db, err = store.Open(context.Background(), s.path); err != nil {
		s.t.Fatal(err)
	}
	if s.key, err = audit.LoadKey(filepath.Dir(s.path)); err != nil {
		s.t.Fatal(err)
	}
	if s.verifier, err = audit.ParseKey([]byte(s.key.Public)); err != nil {
		s.t.Fatal(err)
	}
	if s.log, err = audit.NewLog(audit.Options{Store: s.db.Audit(), Key: s.key, Dir: s.archives}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) close() {
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			s.t.Error(err)
		}
	}
	s.db = nil
}

var old = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// fill appends n records, a second apart, and signs after every tenth.
func (s *site) fill(n int) {
	s.t.Helper()
	head, err := s.db.Audit().Head(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range n {
		seq := int(head.Size) + i + 1
		r := audit.Record{
			Time: old.Add(time.Duration(seq) * time.Second), Actor: fmt.Sprint("a", seq%3), Action: "x.y", Resource: fmt.Sprint("r", seq),
			Outcome: audit.Success, Attributes: map[string]string{"k": fmt.Sprint("v<", seq), "a": "ü"},
		}
		if err := s.log.Append(s.t.Context(), r); err != nil {
			s.t.Fatal(err)
		}
		if seq%10 == 0 {
			s.sign()
		}
	}
}

func (s *site) sign() *audit.Checkpoint {
	s.t.Helper()
	c, err := s.log.Checkpoint(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *site) archive(before time.Time, size uint64) []audit.Segment {
	s.t.Helper()
	segments, err := s.log.Archive(s.t.Context(), audit.ArchiveRequest{Actor: "tester", Before: before, Size: size, Partial: true})
	if err != nil {
		s.t.Fatal(err)
	}
	return segments
}

func (s *site) verify() *audit.Report {
	s.t.Helper()
	report, err := s.log.Verify(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

func (s *site) intact(records uint64) *audit.Report {
	s.t.Helper()
	report := s.verify()
	if report.Fault != nil || report.Records != records {
		s.t.Fatalf("%d records, want %d; fault %+v", report.Records, records, report.Fault)
	}
	return report
}

// exported returns the numbers of the records in an export, which must verify.
func (s *site) exported() (n uint64) {
	s.t.Helper()
	var out bytes.Buffer
	if err := s.log.Export(s.t.Context(), audit.JSONL, &out); err != nil {
		s.t.Fatal(err)
	}
	report, err := audit.VerifyExport(&out, nil, s.verifier)
	if err != nil || report.Fault != nil {
		s.t.Fatalf("the export does not verify: %+v, %v", report, err)
	}
	return report.Records
}

func TestArchive(t *testing.T) {
	s := newSite(t)
	s.fill(95)
	planned, err := s.log.Archive(t.Context(), audit.ArchiveRequest{Before: old.Add(76 * time.Second), Size: 30, Partial: true, DryRun: true})
	if err != nil || len(planned) != 3 || planned[2].Last != 70 {
		t.Fatalf("planned %+v, %v", planned, err)
	}
	s.intact(95)
	whole, err := s.log.Archive(t.Context(), audit.ArchiveRequest{Actor: "host", Before: old.Add(76 * time.Second), Size: 30})
	if err != nil || len(whole) != 2 {
		t.Fatalf("whole segments: %+v, %v", whole, err)
	}
	rest := s.archive(old.Add(76*time.Second), 30)
	if len(rest) != 1 || rest[0].First != 61 || rest[0].Last != 70 {
		t.Fatalf("the rest: %+v", rest)
	}
	if got := s.archive(old.Add(76*time.Second), 30); len(got) != 0 {
		t.Errorf("archived again: %+v", got)
	}
	report := s.intact(98) // with three records of what was archived
	if report.Archived != 70 || report.Signed != 90 {
		t.Errorf("%+v", report)
	}
	if n := s.exported(); n != 98 {
		t.Errorf("%d records exported", n)
	}
	first := uint64(0)
	for r, err := range s.db.Audit().Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		first = r.Seq
		break
	}
	if first != 71 {
		t.Errorf("the database begins with record %d", first)
	}
	info, err := os.Stat(filepath.Join(s.archives, rest[0].File))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	f, err := os.Open(filepath.Join(s.archives, whole[1].File))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	alone, err := audit.VerifySegment(f, nil, s.verifier)
	if err != nil || alone.Fault != nil || alone.Records != 30 {
		t.Errorf("one segment by itself: %+v, %v", alone, err)
	}
}

// Whoever follows the log misses nothing of what is archived meanwhile.
func TestFollowAcrossArchiving(t *testing.T) {
	s := newSite(t)
	s.fill(60)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	want := uint64(0)
	for r, err := range s.log.Follow(ctx, audit.Filter{}) {
		want++
		if err != nil || r.Seq != want {
			t.Fatalf("record %v came as number %d: %v", r, want, err)
		}
		if want == 5 {
			s.archive(old.Add(time.Hour), 20)
		}
		if want == 63 {
			break
		}
	}
	n := 0
	for r, err := range s.log.Follow(ctx, audit.Filter{Actor: "a1", Resource: "r4"}) {
		if err != nil || r.Seq != 4 {
			t.Fatal(r, err)
		}
		n++
		cancel()
	}
	if n != 1 {
		t.Errorf("%d records found in archives", n)
	}
}

// A search across archives lists, page by page and in either order, what a
// search lists where nothing was archived.
func TestSearchAcrossArchives(t *testing.T) {
	s := newSite(t)
	s.fill(95)
	where, err := filter.Parse("resource = \"r1*\" OR actor = a2", audit.ListFields)
	if err != nil {
		t.Fatal(err)
	}
	filters := []audit.Filter{
		{},
		{Actor: "a1"},
		{Where: where},
		{After: 33},
		{After: 88},
		{Resource: "r7"},
		{Resource: "none"},
		{Since: old.Add(20 * time.Second), Until: old.Add(60 * time.Second)},
	}
	numbers := func(f audit.Filter) (all []uint64) {
		t.Helper()
		for {
			page, err := s.log.List(t.Context(), f)
			if err != nil || len(page.Records) > f.Limit {
				t.Fatal(len(page.Records), err)
			}
			if f.Token == "" && page.Next == "" && int(page.Total) != len(page.Records) || f.Token != "" && page.Total != 0 ||
				f.Token == "" && f.Everything() && page.Total < 95-int64(f.After) {
				t.Errorf("%+v: %d in all, %d on this page, next %q", f, page.Total, len(page.Records), page.Next)
			}
			for _, r := range page.Records {
				if r.Seq <= 95 {
					all = append(all, r.Seq)
				}
			}
			if f.Token = page.Next; f.Token == "" {
				return all
			}
		}
	}
	var want [][]uint64
	each := func(do func(f audit.Filter)) {
		for _, f := range filters {
			for _, f.Oldest = range []bool{false, true} {
				for _, f.Limit = range []int{1, 7, 20, 1000} {
					f.Archived = true
					do(f)
				}
			}
		}
	}
	each(func(f audit.Filter) { want = append(want, numbers(f)) })
	first, err := s.log.List(t.Context(), audit.Filter{Limit: 40, Archived: true}) // to go on with when more is archived
	if err != nil || first.Records[39].Seq != 56 {
		t.Fatal(first, err)
	}
	for _, before := range []int{31, 85} {
		s.archive(old.Add(time.Duration(before)*time.Second), 20)
		i := 0
		each(func(f audit.Filter) {
			if got := numbers(f); !slices.Equal(got, want[i]) {
				t.Errorf("%+v lists %v, want %v", f, got, want[i])
			}
			i++
		})
	}
	if got := numbers(audit.Filter{Limit: 40, Archived: true, Token: first.Next}); len(got) != 55 || got[0] != 55 || got[54] != 1 {
		t.Errorf("went on with %v", got)
	}
	for _, token := range []string{"x", "a", "a.", "s?.", ".", "a1", "s1.?"} {
		if _, err := s.log.List(t.Context(), audit.Filter{Archived: true, Token: token}); err == nil {
			t.Errorf("the token %q was accepted", token)
		}
	}
}

// rezip changes the lines of an archive.
func rezip(t testing.TB, path string, change func(lines []string) []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(zip)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	lines := change(strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n"))
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err = io.WriteString(w, strings.TrimSuffix(strings.Join(lines, ""), "\n")+"\n")
	if err := errors.Join(err, w.Close(), os.WriteFile(path, out.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestTamperedArchives(t *testing.T) {
	swap := func(i, j int) func([]string) []string {
		return func(l []string) []string { l[i], l[j] = l[j], l[i]; return l }
	}
	for name, tt := range map[string]struct {
		do    func(t *testing.T, files []string)
		first uint64
		kind  audit.FaultKind
	}{
		"edited": {func(t *testing.T, f []string) {
			rezip(t, f[1], func(l []string) []string { l[5] = strings.Replace(l[5], `"x.y"`, `"x.z"`, 1); return l })
		}, 25, audit.Edited},
		"removed": {func(t *testing.T, f []string) {
			rezip(t, f[1], func(l []string) []string { return append(l[:3], l[4:]...) })
		}, 23, audit.Missing},
		"reordered": {func(t *testing.T, f []string) { rezip(t, f[0], swap(4, 5)) }, 4, audit.Missing},
		"truncated": {func(t *testing.T, f []string) {
			rezip(t, f[1], func(l []string) []string { return l[:11] })
		}, 31, audit.Edited},
		"cut in the middle": {func(t *testing.T, f []string) {
			if err := os.Truncate(f[0], 20); err != nil {
				t.Fatal(err)
			}
		}, 1, audit.Edited},
		"missing": {func(t *testing.T, f []string) {
			if err := os.Remove(f[1]); err != nil {
				t.Fatal(err)
			}
		}, 21, audit.Missing},
		"swapped": {func(t *testing.T, f []string) {
			if err := errors.Join(os.Rename(f[0], f[0]+".x"), os.Rename(f[1], f[0]), os.Rename(f[0]+".x", f[1])); err != nil {
				t.Fatal(err)
			}
		}, 1, audit.Missing},
		"a link elsewhere": {func(t *testing.T, f []string) {
			other := filepath.Join(t.TempDir(), "other")
			if err := errors.Join(os.Rename(f[1], other), os.Symlink(other, f[1])); err != nil {
				t.Fatal(err)
			}
		}, 21, audit.Missing},
		"packed again": {func(t *testing.T, f []string) {
			rezip(t, f[2], func(l []string) []string { return l })
			raw, err := os.ReadFile(f[2])
			if err == nil {
				raw[9] ^= 1 // the operating system, which gzip only notes
				err = os.WriteFile(f[2], raw, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 41, audit.Edited},
		"without its checkpoint": {func(t *testing.T, f []string) {
			rezip(t, f[0], func(l []string) []string { l[21] = `{"checkpoint":""}` + "\n"; return l })
		}, 21, audit.Edited},
		"with another's checkpoint": {func(t *testing.T, f []string) {
			var other string
			rezip(t, f[1], func(l []string) []string { other = l[21]; return l })
			rezip(t, f[0], func(l []string) []string { l[21] = other; return l })
		}, 1, audit.Rewritten},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.fill(65)
			segments := s.archive(old.Add(time.Hour), 20)
			var files []string
			for i := range segments {
				files = append(files, filepath.Join(s.archives, segments[i].File))
			}
			s.intact(65 + uint64(len(segments)))
			tt.do(t, files)
			f := s.verify().Fault
			if f == nil || f.Seq != tt.first || f.Kind != tt.kind || f.Detail == "" {
				t.Errorf("found %+v, want %s at %d", f, tt.kind, tt.first)
			}
		})
	}
}

// Records that reappear in the database before its beginning are found.
func TestForgedBeginning(t *testing.T) {
	s := newSite(t)
	s.fill(30)
	s.archive(old.Add(time.Hour), 20)
	s.close()
	raw, err := sql.Open("sqlite", s.path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = raw.Exec(`INSERT INTO audit_records SELECT 7, record FROM audit_records LIMIT 1`)
	if err := errors.Join(err, raw.Close()); err != nil {
		t.Fatal(err)
	}
	s.open()
	if f := s.verify().Fault; f == nil || f.Seq != 31 {
		t.Errorf("found %+v", f)
	}
}

// A log that was rewritten as a whole, archives and all, by somebody without the
// key: a checkpoint that was taken away shows it, and so do the archives, whose
// checkpoints cannot be made again.
func TestRewrittenArchives(t *testing.T) {
	s := newSite(t)
	s.fill(40)
	kept := s.sign()
	forged := newSite(t)
	forged.fill(20)
	forged.archive(old.Add(time.Hour), 10)
	trail := audit.Trail{Store: forged.db.Audit(), Dir: forged.archives}
	report, err := trail.Verify(t.Context(), s.verifier)
	if err != nil || report.Fault == nil || report.Fault.Kind != audit.Unverified {
		t.Errorf("%+v, %v", report.Fault, err)
	}
	report, err = trail.Verify(t.Context(), forged.verifier, kept.Note)
	if err != nil || report.Fault == nil {
		t.Errorf("a checkpoint of another log agrees: %+v, %v", report, err)
	}
}

// Somebody with the key on the host rewrites everything: a fresh chain in the
// database and in the archives, signed anew, with the old checkpoints left where
// they are so that nothing seems to be gone. The checkpoints that were left show
// it, and where they are taken away too, the one that was saved elsewhere does.
func TestRewrittenWithTheKey(t *testing.T) {
	s := newSite(t)
	s.fill(40)
	s.archive(old.Add(time.Hour), 20)
	saved := s.sign()
	s.intact(42)
	forged := newSite(t)
	forged.key, forged.verifier = s.key, s.verifier
	var err error
	if forged.log, err = audit.NewLog(audit.Options{Store: forged.db.Audit(), Key: s.key, Dir: forged.archives}); err != nil {
		t.Fatal(err)
	}
	for i := range 40 { // the same but for one record
		r := audit.Record{Time: old.Add(time.Duration(i+1) * time.Second), Actor: "a", Action: "x.y", Outcome: audit.Success}
		if i == 4 {
			r.Actor = "nobody"
		}
		if err := forged.log.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if i%10 == 9 {
			forged.sign()
		}
	}
	forged.archive(old.Add(time.Hour), 20)
	forged.sign()
	forged.intact(42) // by itself nothing is wrong with it
	found := func(notes ...string) *audit.Fault {
		t.Helper()
		report, err := audit.Trail{Store: forged.db.Audit(), Dir: forged.archives}.Verify(t.Context(), s.verifier, notes...)
		if err != nil {
			t.Fatal(err)
		}
		return report.Fault
	}
	if f := found(saved.Note); f == nil || f.Kind != audit.Rewritten || f.Until != saved.Size {
		t.Errorf("against the saved checkpoint: %+v", f)
	}
	kept, err := s.db.Audit().Checkpoints(t.Context())
	if err != nil || len(kept) == 0 {
		t.Fatal(kept, err)
	}
	forged.close()
	raw, err := sql.Open("sqlite", forged.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range kept {
		if _, err = raw.Exec("INSERT INTO audit_checkpoints (size, note) VALUES ($1, $2) ON CONFLICT (size) DO UPDATE SET note = excluded.note", int64(c.Size), c.Note); err != nil {
			t.Fatal(err)
		}
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	forged.open()
	if f := found(); f == nil || f.Kind != audit.Rewritten || f.Seq != 1 || f.Until != 10 {
		t.Errorf("with the checkpoints that were kept: %+v", f)
	}
	if f := found(saved.Note); f == nil || f.Kind != audit.Rewritten {
		t.Errorf("with both: %+v", f)
	}
}

// full is a disk that has no room after so many bytes.
type full struct {
	to   io.Writer
	room int
}

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, syscall.ENOSPC
	}
	return f.to.Write(p)
}

func TestDiskFullWhileArchiving(t *testing.T) {
	s := newSite(t)
	s.fill(40)
	defer audit.SetWrapFile(nil)
	for _, room := range []int{0, 500} {
		audit.SetWrapFile(func(w io.Writer) io.Writer { return &full{w, room} })
		segments, err := s.log.Archive(t.Context(), audit.ArchiveRequest{Actor: "host", Before: old.Add(time.Hour), Size: 20, Partial: true})
		if err == nil || len(segments) != 0 || !strings.Contains(err.Error(), "no space") {
			t.Fatalf("with room for %d bytes: %+v, %v", room, segments, err)
		}
		left, err := os.ReadDir(s.archives)
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
	s.intact(42) // and two records of what failed
	audit.SetWrapFile(nil)
	s.archive(old.Add(time.Hour), 20)
	s.intact(44)
}

// A damaged log is not archived: what is wrong with it stays to be seen.
func TestDamagedLogIsNotArchived(t *testing.T) {
	s := newSite(t)
	s.fill(20)
	s.close()
	raw, err := sql.Open("sqlite", s.path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = raw.Exec("DROP TRIGGER audit_records_stay")
	if err == nil {
		_, err = raw.Exec("UPDATE audit_records SET record = replace(record, 'a', 'm') WHERE seq = 4")
	}
	if err := errors.Join(err, raw.Close()); err != nil {
		t.Fatal(err)
	}
	s.open()
	segments, err := s.log.Archive(t.Context(), audit.ArchiveRequest{Before: old.Add(time.Hour), Partial: true})
	if err == nil || len(segments) != 0 {
		t.Errorf("archived %+v", segments)
	}
	if f := s.verify().Fault; f == nil || f.Seq != 4 {
		t.Errorf("found %+v", f)
	}
}

const crashEnv = "SOP_TEST_ARCHIVE_CRASH" // database|step

// TestCrashWhileArchiving kills a process at each step of archiving: every
// record is in the database, in an archive or in both, the log verifies, and
// archiving can be done again.
func TestCrashWhileArchiving(t *testing.T) {
	if job := os.Getenv(crashEnv); job != "" {
		crash(t, job)
		return
	}
	for _, step := range []string{"begun", "written", "checked", "renamed", "named", "remembered", "removing", "removed"} {
		t.Run(step, func(t *testing.T) {
			s := newSite(t)
			s.fill(40)
			records := uint64(40)
			if step == "removing" { // more than are removed at a time
				if err := s.log.Append(t.Context(), make([]audit.Record, 4460)...); err != nil {
					t.Fatal(err)
				}
				s.sign()
				records = 4500
			}
			s.close()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestCrashWhileArchiving$")
			cmd.Env = append(os.Environ(), crashEnv+"="+s.path+"|"+step)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the process was not killed: %v\n%s", err, out)
			}
			s.open()
			switch step { // with a record of each segment that was archived
			case "remembered", "removed":
				records++
			case "removing":
				records += 3
			}
			s.intact(records)
			if n := s.exported(); n != records {
				t.Errorf("%d records are left of %d", n, records)
			}
			if step == "removing" { // of the last that there was
				s.fill(20)
				records += 20
			}
			segments := s.archive(time.Now().Add(time.Hour), 20)
			if len(segments) == 0 {
				t.Error("nothing could be archived after the crash")
			}
			s.intact(records + uint64(len(segments)))
			left, err := os.ReadDir(s.archives)
			if all, listErr := s.log.Archives(t.Context()); err != nil || listErr != nil || len(left) != len(all) {
				t.Errorf("%d files for %d archives: %v", len(left), len(all), err)
			}
			if more, err := s.db.Audit().Remove(t.Context()); more || err != nil {
				t.Errorf("archived records are still in the database: %v", err)
			}
		})
	}
}

func crash(t *testing.T, job string) {
	path, at, _ := strings.Cut(job, "|")
	s := &site{t: t, path: path, archives: filepath.Join(filepath.Dir(path), "archives")}
	s.open()
	audit.SetArchiveStep(func(step string) {
		if step == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	s.archive(time.Now().Add(time.Hour), 20)
}

func FuzzVerifySegment(f *testing.F) {
	s := newSite(f)
	s.log, _ = audit.NewLog(audit.Options{Store: s.db.Audit(), Key: s.key, Dir: s.archives})
	ctx := context.Background()
	if err := s.log.Append(ctx, make([]audit.Record, 5)...); err != nil {
		f.Fatal(err)
	}
	if _, err := s.log.Checkpoint(ctx); err != nil {
		f.Fatal(err)
	}
	segments, err := s.log.Archive(ctx, audit.ArchiveRequest{Before: time.Now().Add(time.Hour), Partial: true})
	if err != nil || len(segments) != 1 {
		f.Fatal(segments, err)
	}
	good, err := os.ReadFile(filepath.Join(s.archives, segments[0].File))
	if err != nil {
		f.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(good))
	if err != nil {
		f.Fatal(err)
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	s.close() // what it does beside would be taken for coverage
	f.Add([]byte(`{"sop_audit_segment":1,"first":18446744073709551615,"last":18446744073709551615,"prev_hash":"","edge":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write(text)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		report, err := audit.VerifySegment(&packed, nil, s.verifier)
		if err != nil {
			t.Fatal(err)
		}
		if report.Fault == nil && report.Head.Root() != segments[0].End.Root() {
			t.Errorf("another segment verifies: %q", text)
		}
	})
}

func FuzzSplitCheckpoints(f *testing.F) {
	f.Add("o\n1\nx\n\n— k s\n\no\n2\ny\n\n— k t\n\no\n3")
	f.Add("\n\n— \n")
	f.Fuzz(func(t *testing.T, text string) {
		notes := audit.SplitCheckpoints(text)
		if len(notes) == 0 {
			t.Fatal("nothing is left")
		}
		if again := audit.SplitCheckpoints(strings.Join(notes, "\n")); len(notes) > 1 && len(again) != len(notes) {
			t.Errorf("%q is taken apart as %q and then %q", text, notes, again)
		}
	})
}
