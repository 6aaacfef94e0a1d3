package token

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Spec says what token is asked for. What is left empty is as little bound as
// may be, or takes the default of the type.
type Spec struct {
	Type       Type // of a child: empty, or its parent's
	Protocol   string
	Operations []string // at least one
	Requester  string   // who may use it
	Task       string
	Paths      []string
	Workspace  string

	NotBefore time.Time // zero: now
	TTL       time.Duration
	MaxLife   time.Duration // how far it can be renewed, from now
	MaxUses   int           // of a child: 1 unless said otherwise

	IssuedBy string
	Why      string // for the history
}

const (
	maxName       = 256 // bytes
	maxText       = 1024
	maxOperations = 64
	maxPaths      = 256
)

// fresh makes a token, without secret and state, of a spec that is complete.
func (s *Spec) fresh(now time.Time) (*Token, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	start := now
	if s.NotBefore.After(now) {
		start = s.NotBefore.UTC()
	}
	return &Token{
		ID: id.String(), Type: s.Type, Protocol: s.Protocol, Operations: s.Operations, Requester: s.Requester, Task: s.Task,
		Paths: s.Paths, Workspace: s.Workspace, IssuedBy: s.IssuedBy, CreatedAt: now, NotBefore: start,
		ExpiresAt: start.Add(s.TTL), MaxLife: s.MaxLife, MaxUses: s.MaxUses,
	}, nil
}

// complete checks the spec of a token without parent and fills in the defaults.
func (s *Spec) complete(limits map[Type]Limits, now time.Time) error {
	l, known := limits[s.Type]
	if !known || !slices.Contains(Types(), s.Type) {
		return invalid("type", "there is no token type %q", clip(string(s.Type))).WithRemedy("the types are %s", list(Types()))
	}
	if err := s.bindings(); err != nil {
		return err
	}
	if s.TTL == 0 {
		s.TTL = l.TTL
		if s.MaxLife > 0 {
			s.TTL = min(l.TTL, s.MaxLife)
		}
	}
	if s.MaxLife == 0 {
		s.MaxLife = l.MaxLife
	}
	if s.MaxUses == 0 {
		s.MaxUses = l.MaxUses
	}
	wait := max(0, s.NotBefore.Sub(now))
	switch {
	case s.MaxLife < 0 || s.MaxLife > l.MaxLife:
		return invalid("max_life", "a token of type %s lives at most %s", s.Type, l.MaxLife).WithRemedy("ask for less")
	case s.TTL < 0 || s.TTL > s.MaxLife || wait > s.MaxLife-s.TTL: // their sum may not fit
		return invalid("ttl", "a life of %s, beginning in %s, does not fit the greatest life of %s", s.TTL, wait, s.MaxLife).
			WithRemedy("ask for less; a token can be renewed within its greatest life")
	case s.MaxUses < 0 || s.MaxUses > l.MostUses:
		return invalid("max_uses", "a token of type %s has between 1 and %d uses", s.Type, l.MostUses).WithRemedy("ask for a number between them")
	}
	return nil
}

// bindings checks what the token is to be bound to and gives lists their one
// form.
func (s *Spec) bindings() error {
	for _, f := range []struct{ field, value string }{
		{"protocol", s.Protocol}, {"requester", s.Requester}, {"task", s.Task}, {"workspace", s.Workspace}, {"issued_by", s.IssuedBy},
	} {
		if !isName(f.value, true) {
			return invalid(f.field, "the name is too long or holds what a name may not").WithRemedy("give at most %d printable bytes without spaces", maxName)
		}
	}
	switch {
	case s.Requester == "":
		return invalid("requester", "nobody is named who may use the token").WithRemedy("name an agent")
	case len(s.Operations) == 0 || len(s.Operations) > maxOperations:
		return invalid("operations", "a token is for between 1 and %d operations", maxOperations).WithRemedy("name them; %s stands for all", Anything)
	case len(s.Paths) > maxPaths:
		return invalid("paths", "a token has at most %d path patterns", maxPaths).WithRemedy("name directories that hold them")
	case len(s.Why) > maxText:
		return invalid("reason", "the reason is longer than %d bytes", maxText).WithRemedy("say it in fewer words")
	}
	for _, op := range s.Operations {
		if !isName(op, false) || op != Anything && strings.Contains(op, "*") {
			return invalid("operations", "there is no such operation name").WithRemedy("give printable names; only a lone %s stands for all", Anything)
		}
	}
	s.Operations = set(s.Operations)
	paths := make([]string, len(s.Paths))
	for i, p := range s.Paths {
		clean, ok := cleanPath(p)
		if !ok {
			return invalid("paths", "path pattern %q is not one", clip(p)).WithRemedy("give patterns relative to the workspace, without ..")
		}
		paths[i] = clean
	}
	s.Paths = set(paths)
	return nil
}

// set sorts values and leaves each once; nil when there are none.
func set(values []string) []string {
	if len(values) == 0 {
		return nil
	}
	values = slices.Clone(values)
	slices.Sort(values)
	return slices.Compact(values)
}

func isName(s string, empty bool) bool {
	return (s != "" || empty) && len(s) <= maxName && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) })
}

func invalid(field, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, "TOKEN_REQUEST", format, args...).WithField(field, "")
}

// clip makes text from outside fit for a message. What could be a secret is
// left out.
func clip(s string) string {
	if strings.Contains(s, secretPrefix) {
		return redacted
	}
	if len(s) > 100 {
		s = s[:100]
	}
	return strings.ToValidUTF8(s, "?")
}

func list[T ~string](all []T) string {
	words := make([]string, len(all))
	for i, w := range all {
		words[i] = string(w)
	}
	return strings.Join(words, ", ")
}
