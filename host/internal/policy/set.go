package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/cedar-policy/cedar-go/types"
)

// A Set is a number of valid policies, indexed. It does not change, and may be
// used by any number of goroutines.
type Set struct {
	source   string
	digest   string
	policies []*Policy
	byID     map[types.PolicyID]*Policy
	model    *model
	actions  map[string]*index
	memory   memory
}

// Load returns the policies of a directory. The Set is nil if and only if there are
// diagnostics. That there is no directory is one: what it forbade, the default
// policies may permit.
func Load(dir string) (*Set, Diagnostics) {
	files, diags, err := readDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, Diagnostics{whole(dir, "The directory of policies does not exist",
			"Put it back, or make it with `sop policy init %s`; for the default policies, name no directory.", dir)}
	case err != nil:
		return nil, Diagnostics{whole(dir, "Cannot read the directory of policies", "%s.", sentence(plain(err)))}
	case len(diags) > 0:
		return nil, diags.tidy()
	case len(files) == 0:
		return nil, Diagnostics{whole(dir, "No policies", "%s.", sentence(errNoPolicies.Error()))}
	}
	return Parse(dir, files)
}

// Default returns the default policies.
var Default = sync.OnceValue(func() *Set {
	set, diags := Parse(BuiltIn, DefaultFiles())
	if len(diags) > 0 {
		panic(diags) // embedded, and tests load them
	}
	return set
})

// Parse returns the policies of files that were read from source. The Set is nil
// if and only if there are diagnostics.
func Parse(source string, files []File) (*Set, Diagnostics) {
	s := &Set{source: source, byID: make(map[types.PolicyID]*Policy), model: theModel()}
	hash := sha256.New()
	var diags Diagnostics
	for _, f := range files {
		for _, part := range [][]byte{[]byte(f.Name), f.Text} {
			sum := sha256.Sum256(part)
			_, _ = hash.Write(sum[:]) // a hash never fails
		}
		diags = append(diags, s.addFile(f)...)
		if len(diags) > mostDiagnostics {
			break
		}
	}
	if len(s.policies) > maxPolicies {
		diags = append(diags, whole(source, "Too many policies", "There may be at most %d.", maxPolicies))
	}
	if len(diags) == 0 && len(s.policies) == 0 {
		diags = append(diags, whole(source, "No policies", "The files hold none, and without a policy nobody may do anything."))
	}
	if len(diags) > 0 {
		return nil, diags.tidy()
	}
	s.digest = hex.EncodeToString(hash.Sum(nil))
	s.actions = newIndexes(s.model, s.policies)
	return s, diags.tidy()
}

func (s *Set) addFile(f File) Diagnostics {
	src, bad := newSource(f)
	if bad != nil {
		return Diagnostics{*bad}
	}
	policies, bad := src.parse()
	if bad != nil {
		return Diagnostics{*bad}
	}
	var diags Diagnostics
	for _, p := range policies {
		diags = append(diags, s.model.check(src, p)...)
		if other, taken := s.byID[types.PolicyID(p.ID)]; taken {
			at := p.tokens[0]
			if t, ok := find(p.tokens, isText(p.ID)); ok {
				at = t
			}
			diags = append(diags, src.at(at, at, "Duplicate id", "The policy at %s has the id %q already.", other.Place(), p.ID))
			continue
		}
		s.byID[types.PolicyID(p.ID)] = p
		s.policies = append(s.policies, p)
		if len(diags) > mostDiagnostics || len(s.policies) > maxPolicies {
			break
		}
	}
	return diags
}

// Source is the directory that the policies were read from, or BuiltIn.
func (s *Set) Source() string { return s.source }

// Digest tells sets with different text apart.
func (s *Set) Digest() string { return s.digest }

// Policies returns all of them, in the order of files and places. The slice is
// not to be written to.
func (s *Set) Policies() []*Policy { return s.policies }

// Live holds the set in force. The zero value holds the default policies.
type Live struct {
	set atomic.Pointer[Set]
}

// Set returns what is in force.
func (l *Live) Set() *Set {
	if s := l.set.Load(); s != nil {
		return s
	}
	return Default()
}

// Replace puts s in force for every decision from now on.
func (l *Live) Replace(s *Set) { l.set.Store(s) }

// Decide decides by the set in force.
func (l *Live) Decide(req *Request) Decision { return l.Set().Decide(req) }
