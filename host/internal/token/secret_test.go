package token

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sop-host/sop/sdk"
)

func makeSecret(t testing.TB, typ Type) Secret {
	t.Helper()
	s, err := newSecret(typ)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretRoundTrip(t *testing.T) {
	seen := make(map[string]bool)
	for _, typ := range Types() {
		for range 200 {
			s := makeSecret(t, typ)
			got, err := ParseSecret(s.Reveal())
			if err != nil || got != s || !IsAccessor(s.Accessor()) || seen[s.Accessor()] {
				t.Fatalf("%s: %v", s.Accessor(), err)
			}
			seen[s.Accessor()] = true
		}
	}
}

// However a secret is printed or marshalled, nothing of it shows.
func TestSecretNeverShows(t *testing.T) {
	s := makeSecret(t, Todo)
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
	for _, part := range []string{s.Reveal()[randomAt:], s.Reveal()[randomAt : randomAt+8], fmt.Sprintf("%x", s.Reveal()[randomAt:randomAt+8]), fmt.Sprintf("%d", key.bytes[:4])} {
		if strings.Contains(out.String(), strings.Trim(part, "[]")) {
			t.Errorf("shown: %s", out.String())
		}
	}
}

func TestParseIsStrict(t *testing.T) {
	good := makeSecret(t, Operation).Reveal()
	seal := func(body string) string { return body + checksum(body) }
	bad := map[string]string{
		"empty": "", "space": " " + good, "newline": good + "\n", "short": good[:len(good)-1], "long": good + "0",
		"prefix": "SOP" + good[3:], "type": seal("sop_z" + good[5:checkAt]), "accessor": seal(good[:accessorAt] + "-" + good[accessorAt+1:checkAt]),
		"digit": seal(good[:randomAt] + "!" + good[randomAt+1:checkAt]), "over 256 bits": seal(good[:randomAt] + strings.Repeat("Z", randomLen)),
		"checksum": good[:checkAt] + "000000", "huge": strings.Repeat("sop_o_", 1<<20),
	}
	for i := range len(good) { // any one byte
		b := []byte(good)
		b[i] ^= 1
		bad[fmt.Sprint("flipped ", i)] = string(b)
	}
	for name, text := range bad {
		_, err := ParseSecret(text)
		e := sdk.FromError(err)
		if e == nil || e.Reason != ReasonMalformed || e.Remedy == "" || strings.Contains(e.Message, good[randomAt:checkAt]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	for _, typ := range Types() {
		f.Add(makeSecret(f, typ).Reveal())
	}
	f.Add("")
	f.Add(strings.Repeat("0", secretLen))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSecret(text)
		if err == nil && (s.Reveal() != text || len(text) != secretLen || !IsAccessor(s.Accessor())) {
			t.Errorf("took %q", text)
		}
		if err != nil && s != (Secret{}) {
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
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".token*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	refused := func(name string) {
		t.Helper()
		if _, err := LoadKey(path); err == nil || sdk.FromError(err).Reason != "TOKEN_KEY" {
			t.Errorf("%s: %v", name, err)
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
