package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	internalast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// An index holds the policies whose head can match one action, by what the head
// says of principal and resource. Numbers are positions in Set.policies.
type index struct {
	buckets map[bucket][]int32
	// by principal and by resource at all, so that a look-up leaves out what
	// no policy speaks of
	principals, resources map[key]bool
	timed                 bool // one of them may look at the time
}

// key is what a head asks of a principal or a resource: to be, or to be in, an
// entity; to be of a type; or, as the zero key, nothing.
type key struct {
	entity types.EntityUID
	typ    types.EntityType
}

type bucket struct{ principal, resource key }

// newIndexes returns an index for each action.
func newIndexes(m *model, policies []*Policy) map[string]*index {
	out := make(map[string]*index, len(m.actions))
	for name, a := range m.actions {
		x := &index{buckets: make(map[bucket][]int32), principals: make(map[key]bool), resources: make(map[key]bool)}
		for i, p := range policies {
			if tree := p.ast(); a.matches(tree.Action) {
				b := bucket{keyOf(tree.Principal), keyOf(tree.Resource)}
				x.buckets[b] = append(x.buckets[b], int32(i))
				x.principals[b.principal], x.resources[b.resource] = true, true
				x.timed = x.timed || p.isTimed()
			}
		}
		out[name] = x
	}
	return out
}

// matches says whether the head of a policy speaks of the action.
func (a *action) matches(head internalast.IsActionScopeNode) bool {
	switch h := head.(type) {
	case internalast.ScopeTypeEq:
		return h.Entity == a.entity.UID
	case internalast.ScopeTypeIn:
		return a.groups[h.Entity]
	case internalast.ScopeTypeInSet:
		return slices.ContainsFunc(h.Entities, func(e types.EntityUID) bool { return a.groups[e] })
	default:
		return true
	}
}

// keyOf returns something that whatever the head matches has; the evaluation
// decides.
func keyOf(head internalast.IsScopeNode) key {
	switch h := head.(type) {
	case internalast.ScopeTypeEq:
		return key{entity: h.Entity}
	case internalast.ScopeTypeIn:
		return key{entity: h.Entity}
	case internalast.ScopeTypeIsIn:
		return key{entity: h.Entity}
	case internalast.ScopeTypeIs:
		return key{typ: h.Type}
	default:
		return key{}
	}
}

// keysOf returns the keys that an entity has, as far as they are in use.
func keysOf(e *types.Entity, used map[key]bool, keys []key) []key {
	add := func(k key) {
		if used[k] {
			keys = append(keys, k)
		}
	}
	add(key{})
	add(key{typ: e.UID.Type})
	add(key{entity: e.UID})
	for parent := range e.Parents.All() {
		if parent != e.UID {
			add(key{entity: parent})
		}
	}
	return keys
}

// candidates returns the policies that can match, in their order.
func (x *index) candidates(principal, resource *types.Entity) []int32 {
	var room [2][8]key
	principals := keysOf(principal, x.principals, room[0][:0])
	resources := keysOf(resource, x.resources, room[1][:0])
	var all []int32
	lists := 0
	for _, p := range principals {
		for _, r := range resources {
			list := x.buckets[bucket{p, r}]
			switch {
			case len(list) == 0:
				continue
			case lists == 0:
				all = list
			case lists == 1:
				all = slices.Concat(all, list)
			default:
				all = append(all, list...)
			}
			lists++
		}
	}
	if lists > 1 {
		slices.Sort(all)
	}
	return all
}
