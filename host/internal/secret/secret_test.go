package secret

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const prefix = "sopk_"

func makeSecret(t testing.TB) Secret {
	t.Helper()
	s, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	seen := make(map[string]bool)
	for range 500 {
		s := makeSecret(t)
		got, ok := Parse(prefix, s.Reveal())
		if !ok || got != s || !IsAccessor(s.Accessor()) || seen[s.Accessor()] {
			t.Fatalf("%s: %v", s.Accessor(), ok)
		}
		seen[s.Accessor()] = true
	}
}

// Accessors of one moment differ, and stand next to each other.
func TestAccessorsOfOneTime(t *testing.T) {
	at := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	begin, seen := "", make(map[string]bool)
	for range 500 {
		a, err := newAccessor(at)
		if err != nil || !IsAccessor(a) || seen[a] || begin != "" && a[:timeLen] != begin {
			t.Fatalf("%s after %s…: %v", a, begin, err)
		}
		begin, seen[a] = a[:timeLen], true
	}
	for _, later := range []time.Time{at.Add(time.Millisecond), time.Date(2080, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if a, err := newAccessor(later); err != nil || !IsAccessor(a) || a[:timeLen] == begin {
			t.Errorf("at %s: %s, %v", later, a, err)
		}
	}
}

// What is kept of a secret proves it, under one key and for one purpose.
func TestHash(t *testing.T) {
	s, other := makeSecret(t), makeSecret(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	another, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	hash := key.Hash("a", s)
	if !key.Proves("a", s, hash) || key.Proves("b", s, hash) || key.Proves("a", other, hash) || another.Proves("a", s, hash) || key.Proves("a", s, nil) {
		t.Error("it does not prove what it should, or proves more")
	}
}

// However a secret is printed or marshalled, nothing of it shows.
func TestSecretNeverShows(t *testing.T) {
	s := makeSecret(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, v := range []any{s, &s, struct{ S Secret }{s}, []Secret{s}, map[string]Secret{"k": s}, key, struct{ K Key }{key}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
	}
	for _, part := range []string{s.Reveal()[len(prefix)+randomAt:], s.Reveal()[randomAt : randomAt+8+len(prefix)], fmt.Sprintf("%x", s.Reveal()[len(prefix)+randomAt:randomAt+8+len(prefix)]), fmt.Sprintf("%d", key.bytes[:4])} {
		if strings.Contains(out.String(), strings.Trim(part, "[]")) {
			t.Errorf("shown: %s", out.String())
		}
	}
}

func TestParseIsStrict(t *testing.T) {
	good := makeSecret(t).Reveal()
	seal := func(body string) string { return body + checksum(body) }
	at := len(prefix)
	bad := map[string]string{
		"empty": "", "space": " " + good, "newline": good + "\n", "short": good[:len(good)-1], "long": good + "0",
		"prefix": "SOP" + good[3:], "other prefix": seal("sopt_" + good[at:at+checkAt]), "accessor": seal(good[:at] + "-" + good[at+1:at+checkAt]),
		"digit": seal(good[:at+randomAt] + "!" + good[at+randomAt+1:at+checkAt]), "over 256 bits": seal(good[:at+randomAt] + strings.Repeat("Z", randomLen)),
		"checksum": good[:at+checkAt] + "000000", "huge": strings.Repeat(prefix, 1<<20),
	}
	for i := range len(good) { // any one byte
		b := []byte(good)
		b[i] ^= 1
		bad[fmt.Sprint("flipped ", i)] = string(b)
	}
	for name, text := range bad {
		if _, ok := Parse(prefix, text); ok {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(makeSecret(f).Reveal())
	f.Add("")
	f.Add(strings.Repeat("0", len(prefix)+bodyLen))
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := Parse(prefix, text)
		if ok && (s.Reveal() != text || len(text) != len(prefix)+bodyLen || !IsAccessor(s.Accessor())) {
			t.Errorf("took %q", text)
		}
		if !ok && s != (Secret{}) {
			t.Error("an error with a secret")
		}
	})
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	first, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadKey(path)
	if err != nil || string(again.bytes) != string(first.bytes) {
		t.Fatalf("another key: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	refused := func(name string) {
		t.Helper()
		if _, err := LoadKey(path); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	refused("readable by the group")
	if err := os.WriteFile(path, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("no key")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path+".1", path); err != nil {
		t.Fatal(err)
	}
	refused("symbolic link")
}
