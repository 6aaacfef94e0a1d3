package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// golden are records whose hashes stand for good: what they are today, a later
// version must still verify. They were computed by another program.
var golden = []struct {
	record Record
	bytes  string // hexadecimal, without the previous hash
	hash   string
}{
	{
		record: Record{Time: time.Unix(0, 1), Actor: "a", Action: "b", Outcome: Success},
		bytes: "0001" + "0000000000000001" + "0000000000000001" + "0000000161" + "0000000162" + "00000000" + "0000000773756363657373" +
			"00000000" + "00000000" + "00000000" + "00000000" + "00000000",
		hash: "f9f504b12cdd2b3a95fe3a7303f9929efc50d0b8cd48e810a27a5635bda10b47",
	},
	{
		record: Record{
			Time: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC), Actor: "uid:1000", Action: "gap.suppress", Resource: "gap/1", Outcome: Denied,
			Reason: "ünï", RequestID: "r", TraceID: "t", Token: "k", Attributes: map[string]string{"b": "2", "a": "1"},
		},
		bytes: "0001" + "0000000000000002" + "18998b01859eb608" + "000000087569643a31303030" + "0000000c6761702e7375707072657373" + "000000056761702f31" +
			"0000000664656e696564" + "00000005c3bc6ec3af" + "0000000172" + "0000000174" + "000000016b" +
			"00000002" + "0000000161" + "0000000131" + "0000000162" + "0000000132",
		hash: "bf8e1db27b4f9dcafe2acb1604c34f3d7293635697d0c3f448b9c43b49581845",
	},
}

func TestGoldenEncoding(t *testing.T) {
	var head Head
	for i, g := range golden {
		r := g.record
		prev := head.Last
		Seal(t.Context(), &head, &r)
		got := hex.EncodeToString(r.appendCanonical(nil))
		if got != g.bytes+prev.String() {
			t.Errorf("record %d is encoded as\n%s, want\n%s", i+1, got, g.bytes+prev.String())
		}
		if r.Hash.String() != g.hash {
			t.Errorf("record %d hashes to %s, want %s", i+1, r.Hash, g.hash)
		}
		if leaf := tlog.RecordHash(r.appendCanonical(nil)[1:]); Hash(leaf) != r.Hash {
			t.Errorf("record %d is no leaf of tlog: %x", i+1, leaf)
		}
	}
}

// The tree is tlog's, whatever the size.
func TestTreeIsTlogs(t *testing.T) {
	var head Head
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, read)
		if err != nil || Hash(want) != head.Root() {
			t.Fatalf("the tree of %d records hashes to %s, tlog says %x (%v)", n, head.Root(), want, err)
		}
		again, err := HeadOf(head.Size, head.Last[:], head.Edge())
		if err != nil || again.Root() != head.Root() {
			t.Fatalf("the head of %d records does not survive the store: %v", n, err)
		}
		leaf := Hash(sha256.Sum256([]byte{byte(n)}))
		more, err := tlog.StoredHashesForRecordHash(n, tlog.Hash(leaf), read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		head.add(leaf)
	}
	if _, err := HeadOf(3, make([]byte, 32), make([]byte, 32)); err == nil {
		t.Error("a damaged head was accepted")
	}
}

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a\nb": `a\u000ab`, "\x1b[31m": `\u001b[31m`, "\xff": `\xff`, "ünï ☃": "ünï ☃",
		"\u202eevil": `\u202eevil`, "\U000e0001": `\U000e0001`, "\u2028": `\u2028`,
		strings.Repeat("a", 20): strings.Repeat("a", 20), strings.Repeat("a", 21): strings.Repeat("a", 17) + "…",
		strings.Repeat("ü", 11): strings.Repeat("ü", 8) + "…",
	} {
		got := safe(in, 20)
		if got != want || len(got) > 20 {
			t.Errorf("safe(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestBounds(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	attributes := make(map[string]string)
	for i := range 100 {
		attributes[strings.Repeat("k", i)+huge[:i%2]] = huge
	}
	var head Head
	r := Record{Actor: huge, Action: huge, Resource: huge, Outcome: Outcome(huge), Reason: huge, RequestID: huge, TraceID: huge, Token: huge, Attributes: attributes}
	Seal(t.Context(), &head, &r)
	if n := len(r.appendCanonical(nil)); n > 64<<10 || len(r.Attributes) > maxAttribute || r.Outcome != Failure || r.Attributes["left_out"] == "" {
		t.Errorf("%d bytes, %d attributes, outcome %q", n, len(r.Attributes), r.Outcome)
	}
	if len(attributes) < 60 {
		t.Error("the caller's map was changed")
	}
}

func TestOrigin(t *testing.T) {
	var head Head
	ctx := WithOrigin(context.Background(), Origin{RequestID: "r", TraceID: "t", Token: "k"})
	one, two := Record{}, Record{RequestID: "own"}
	Seal(ctx, &head, &one)
	Seal(ctx, &head, &two)
	if one.RequestID != "r" || one.TraceID != "t" || one.Token != "k" || two.RequestID != "own" || two.Token != "k" {
		t.Errorf("%+v, %+v", one, two)
	}
}

func testKey(t testing.TB) (*Key, note.Verifier) {
	t.Helper()
	key, err := LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := ParseKey([]byte(key.Public))
	if err != nil {
		t.Fatal(err)
	}
	return key, verifier
}

func TestKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadKey(dir)
	if err != nil || again.Public != first.Public {
		t.Errorf("the key changed: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, KeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	wantReason := func(reason string) {
		t.Helper()
		_, err := LoadKey(dir)
		var e *sdk.Error
		if !errors.As(err, &e) || e.Reason != reason || e.Remedy == "" {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, PublicKeyFile), []byte(mustPublic(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantReason("AUDIT_KEY")
	if err := os.Remove(filepath.Join(dir, KeyFile)); err != nil {
		t.Fatal(err)
	}
	wantReason("AUDIT_KEY_MISSING")
}

// What the private key holds too is written again; many keys, since their texts have
// characters that separate their parts.
func TestPublicKeyIsWrittenAgain(t *testing.T) {
	for range 50 {
		dir := t.TempDir()
		first, err := LoadKey(dir)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, PublicKeyFile)
		before, err := os.ReadFile(path)
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := LoadKey(dir)
		if err != nil || again.Public != first.Public {
			t.Fatalf("%v", err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%q, %v; was %q", after, err, before)
		}
	}
}

func mustPublic(t *testing.T) string {
	t.Helper()
	key, _ := testKey(t)
	return key.Public
}

func TestCheckpoint(t *testing.T) {
	key, verifier := testKey(t)
	other, _ := testKey(t)
	var head Head
	for range 5 {
		Seal(t.Context(), &head, &Record{})
	}
	at := time.Unix(1, 2).UTC()
	c, err := Sign(&head, at, key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenCheckpoint(c.Note, verifier)
	if err != nil || got.Size != 5 || got.Root != head.Root() || !got.Time.Equal(at) {
		t.Errorf("got %+v, %v", got, err)
	}
	foreign, err := Sign(&head, at, other)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(text string) string {
		signed, err := note.Sign(&note.Note{Text: text}, key)
		if err != nil {
			t.Fatal(err)
		}
		return string(signed)
	}
	origin := key.Name() + "\n"
	for name, bad := range map[string]string{
		"empty": "", "foreign key": foreign.Note, "edited": strings.Replace(c.Note, "\n5\n", "\n6\n", 1), "long": strings.Repeat("x", maxNote+1),
		"no checkpoint": sign("hello\n"), "origin": sign("other\n5\nAAAA\n1970-01-01T00:00:00Z\n"), "size": sign(origin + "-5\nAAAA\n1970-01-01T00:00:00Z\n"),
		"hash": sign(origin + "5\nAAAA\n1970-01-01T00:00:00Z\n"), "leading zero": sign(strings.Replace(c.text(key.Name()), "\n5\n", "\n05\n", 1)),
	} {
		if _, err := OpenCheckpoint(bad, verifier); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func chain(n int, with func(int, *Record)) ([]*Record, Head) {
	var head Head
	records := make([]*Record, n)
	for i := range records {
		r := &Record{Time: time.Unix(int64(i), 5), Actor: "uid:1000", Action: "gap.suppress", Resource: "gap/019cb000-0000-7000-8000-000000000001", Outcome: Success, Reason: "generated, see #12", RequestID: "0b2d3a3e-3a6b-4f6e-9a53-0c1b7a1c2d3e"}
		if with != nil {
			with(i, r)
		}
		Seal(context.Background(), &head, r)
		records[i] = r
	}
	return records, head
}

func all(records []*Record) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestExports(t *testing.T) {
	records, _ := chain(3, func(i int, r *Record) {
		r.Time = time.Date(2026, 3, 4, 5, 6, 7, 8000000, time.UTC)
		if i == 1 {
			*r = Record{Time: r.Time, Actor: "uid:7", Action: "a|b\\c", Outcome: Denied, Reason: "x=y\\z|\n", Token: "acc", Attributes: map[string]string{"k": "a=\"b\""}}
		}
	})
	var cef, jsonl bytes.Buffer
	for _, r := range records {
		if err := errors.Join(CEF.Write(&cef, r), JSONL.Write(&jsonl, r)); err != nil {
			t.Fatal(err)
		}
	}
	line := strings.Split(cef.String(), "\n")[1]
	want := `CEF:0|SOP|sop|1|a\|b\\c|a\|b\\c denied|7|rt=1772600767008 externalId=2 suser=uid:7 act=a|b\\c outcome=denied reason=x\=y\\z|\\u000a ` +
		`cs4Label=token cs4=acc cs5Label=hash cs5=` + records[1].Hash.String() + ` cs6Label=attributes cs6={"k":"a\=\\"b\\""}`
	if line != want {
		t.Errorf("CEF\n%s, want\n%s", line, want)
	}
	for i, line := range strings.Split(strings.TrimSpace(cef.String()), "\n") {
		if !strings.HasPrefix(line, "CEF:0|") {
			t.Errorf("line %d of CEF: %s", i, line)
		}
	}
	n := 0
	for r, err := range Parse(&jsonl) {
		if err != nil || new(hasher).hash(r) != records[n].Hash {
			t.Errorf("record %d read back: %+v, %v", n, r, err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d records read back", n)
	}
	if _, err := ParseFormat("xml"); err == nil {
		t.Error("xml was accepted")
	}
}

func TestIsPlain(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for b := range 256 {
				text := []byte(strings.Repeat("~ ", length))[:length]
				text[at] = byte(b)
				if got, want := isPlain(string(text)), b >= ' ' && b <= '~'; got != want {
					t.Fatalf("%q: %v", text, got)
				}
			}
		}
	}
}
