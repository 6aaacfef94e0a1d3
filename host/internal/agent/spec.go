package agent

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Spec says what agent is to be enrolled.
type Spec struct {
	Name   string
	Trust  Trust // empty: Exterior
	Groups []string
	TTL    time.Duration // zero: it does not expire
	By     string
	Why    string
}

const (
	maxGroups = 64
	maxText   = 1024 // bytes
	maxTTL    = 10 * 366 * 24 * time.Hour
	maxGrace  = 30 * 24 * time.Hour
)

// name is what agents and groups are called. It has no colon, so that a name
// from outside, which has one ("uid:1000", "corp:alice", "spiffe://…"), is never
// taken for it.
var name = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,62}$`)

// reserved names stand for something else in records.
var reserved = []string{Root, "clock", "host", "unauthenticated"}

// IsName says that text can name an agent.
func IsName(text string) bool { return name.MatchString(text) && !slices.Contains(reserved, text) }

// complete checks the spec and fills in the defaults.
func (s *Spec) complete() error {
	switch {
	case slices.Contains(reserved, s.Name):
		return invalid("name", "the name %s stands for something else", s.Name).WithRemedy("choose another name")
	case !name.MatchString(s.Name):
		return invalid("name", "that cannot be a name").
			WithRemedy("begin with a lower-case letter and go on with lower-case letters, digits, dots, _ and -, 63 characters at most")
	}
	if s.Trust == "" {
		s.Trust = Exterior
	}
	if !slices.Contains(Trusts(), s.Trust) {
		return invalid("trust", "there is no such trust").WithRemedy("an agent is %s or %s", System, Exterior)
	}
	if len(s.Groups) > maxGroups || slices.ContainsFunc(s.Groups, func(g string) bool { return !name.MatchString(g) }) {
		return invalid("groups", "there are more than %d groups, or one whose name is none", maxGroups).
			WithRemedy("name groups as agents are named")
	}
	s.Groups = slices.Compact(slices.Sorted(slices.Values(s.Groups)))
	if len(s.Groups) == 0 {
		s.Groups = nil
	}
	if err := checkTTL(s.TTL); err != nil {
		return err
	}
	return checkWhy(s.Why)
}

func checkTTL(ttl time.Duration) error {
	if ttl < 0 || ttl > maxTTL {
		return invalid("ttl", "a life is from 0, which is without end, to ten years").WithRemedy("give a time such as 720h")
	}
	return nil
}

func checkWhy(why string) error {
	if len(why) > maxText || strings.Contains(why, Prefix) {
		return invalid("reason", "the reason is longer than %d bytes, or holds a key", maxText).WithRemedy("say it in other words")
	}
	return nil
}
