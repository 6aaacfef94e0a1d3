package token

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/secret"
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

// What is of the form but of no type of token is none; see package secret for
// the form.
func TestParseIsStrict(t *testing.T) {
	good := makeSecret(t, Operation).Reveal()
	foreign, err := secret.New("sopk_")
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := secret.New("sop_z_")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "prefix only": "sop_o_", "a key": foreign.Reveal(), "type": unknown.Reveal(), "short": good[:len(good)-1],
		"another letter": "sop_t" + good[5:], "huge": strings.Repeat("sop_o_", 1<<20),
	} {
		_, err := ParseSecret(text)
		e, want := sdk.FromError(err), ReasonMalformed
		if name == "huge" {
			want = ReasonOversize
		}
		if e == nil || e.Reason != want || e.Remedy == "" || strings.Contains(e.Message, good[30:50]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	for _, typ := range Types() {
		f.Add(makeSecret(f, typ).Reveal())
	}
	f.Add("")
	f.Add(strings.Repeat("0", 72))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSecret(text)
		if err == nil && (s.Reveal() != text || !IsAccessor(s.Accessor())) {
			t.Errorf("took %q", text)
		}
		if err != nil && s != (Secret{}) {
			t.Error("an error with a secret")
		}
	})
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	if _, err := LoadKey(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil || sdk.FromError(err).Reason != "TOKEN_KEY" {
		t.Errorf("readable by the group: %v", err)
	}
}
