package egress

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// Rules say where a sandbox may go. The zero value is nowhere.
type Rules struct {
	// Allow names targets on the internet. A name that resolves to an address of
	// a private network does not lead there.
	Allow []Target `json:"allow,omitempty"`
	// AllowPrivate names targets wherever they are.
	AllowPrivate []Target     `json:"allow_private,omitempty"`
	Credentials  []Credential `json:"credentials,omitempty"`
}

// A Credential is added to requests to one target, which is allowed by it. The
// sandbox speaks plain HTTP to that target, by way of the proxy, which adds the
// header and, unless Plain says otherwise, TLS.
type Credential struct {
	Target  Target `json:"target"`
	Private bool   `json:"private,omitempty"` // as AllowPrivate
	Plain   bool   `json:"plain,omitempty"`   // without TLS
	Header  string `json:"header"`
	Prefix  string `json:"prefix,omitempty"` // before the secret: "Bearer "
	// Env or File is where the host has the secret. It is read for each run.
	Env  string `json:"env,omitempty"`
	File string `json:"file,omitempty"`
	// Variable is set in the sandbox, to a placeholder: programs want to see one.
	Variable string `json:"variable,omitempty"`
}

// Placeholder is what a sandbox has in place of a secret.
const Placeholder = "sop-placeholder"

// Any says whether there is anywhere to go.
func (r *Rules) Any() bool { return len(r.Allow)+len(r.AllowPrivate)+len(r.Credentials) > 0 }

// Validate refuses rules that make no sense.
func (r *Rules) Validate() error {
	for _, t := range slices.Concat(r.Allow, r.AllowPrivate) {
		if again, err := ParseTarget(t.String()); err != nil || again != t {
			return fmt.Errorf("%q is not a target", t.String())
		}
	}
	seen := make(map[Target]bool)
	for _, c := range r.Credentials {
		again, err := ParseTarget(c.Target.String())
		switch {
		case err != nil || again != c.Target:
			return fmt.Errorf("%q is not a target", c.Target.String())
		case seen[c.Target]:
			return fmt.Errorf("there are two credentials for %s", c.Target)
		case !httpguts.ValidHeaderFieldName(c.Header) || slices.Contains(hopHeaders, http.CanonicalHeaderKey(c.Header)) || strings.EqualFold(c.Header, "Host"):
			return fmt.Errorf("the credential for %s: %q cannot be its header", c.Target, c.Header)
		case !httpguts.ValidHeaderFieldValue(c.Prefix):
			return fmt.Errorf("the credential for %s: its prefix cannot stand in a header", c.Target)
		case (c.Env == "") == (c.File == ""):
			return fmt.Errorf("the credential for %s is either in a variable or in a file", c.Target)
		}
		seen[c.Target] = true
	}
	return nil
}

const maxSecret = 64 << 10

// secret reads the value of the header.
func (c *Credential) secret() (string, error) {
	value := os.Getenv(c.Env)
	if c.File != "" {
		info, err := os.Stat(c.File)
		switch {
		case err != nil:
			return "", fmt.Errorf("the credential for %s: %w", c.Target, err)
		case !info.Mode().IsRegular() || info.Size() > maxSecret:
			return "", fmt.Errorf("the credential for %s: %s is no file of a secret", c.Target, c.File)
		}
		data, err := os.ReadFile(c.File)
		if err != nil {
			return "", fmt.Errorf("the credential for %s: %w", c.Target, err)
		}
		value = string(data)
	}
	value = strings.TrimSpace(value)
	switch {
	case value == "":
		return "", fmt.Errorf("the credential for %s: there is nothing in %s%s", c.Target, c.Env, c.File)
	case !httpguts.ValidHeaderFieldValue(value):
		return "", fmt.Errorf("the credential for %s cannot stand in a header", c.Target)
	}
	return c.Prefix + value, nil
}

// A Decision is what became of requests to one target.
type Decision struct {
	Target     string `json:"target"` // as it was asked for, where it is none
	Allowed    bool   `json:"allowed"`
	Why        string `json:"why,omitempty"` // it was not, or it failed
	Credential bool   `json:"credential,omitempty"`
	Count      int    `json:"count"`
}

// maxDecisions bounds how many different decisions are kept.
const maxDecisions = 256

// A record counts decisions.
type record struct {
	mu    sync.Mutex
	count map[Decision]int
	lost  int
}

func (r *record) add(d Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == nil {
		r.count = make(map[Decision]int)
	}
	if _, known := r.count[d]; !known && len(r.count) >= maxDecisions {
		r.lost++
		return
	}
	r.count[d]++
}

func (r *record) list() []Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Decision
	for d, n := range r.count {
		d.Count = n
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Decision) int { return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Why, b.Why)) })
	if r.lost > 0 {
		out = append(out, Decision{Target: "others", Count: r.lost})
	}
	return out
}

// A way is how a target may be reached.
type way struct {
	private bool
	plain   bool
	header  string // "" for no credential
	value   string
}

// ways looks every credential up and puts the rules into one table.
func (r *Rules) ways() (map[Target]way, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	out := make(map[Target]way)
	for _, t := range r.Allow {
		out[t] = way{private: isAddress(t.Host) || t.Host == "localhost"}
	}
	for _, t := range r.AllowPrivate {
		out[t] = way{private: true}
	}
	for i := range r.Credentials {
		c := &r.Credentials[i]
		value, err := c.secret()
		if err != nil {
			return nil, err
		}
		out[c.Target] = way{private: c.Private || out[c.Target].private || isAddress(c.Target.Host), plain: c.Plain, header: http.CanonicalHeaderKey(c.Header), value: value}
	}
	return out, nil
}

// isAddress says whether a host is one by itself: who names it has named where
// it is.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

var errNotAllowed = errors.New("it is not among the targets of the profile")
