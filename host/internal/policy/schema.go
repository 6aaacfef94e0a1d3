package policy

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

// Types of entities that the host asks about itself.
const (
	TypeAgent     = "Agent"
	TypeGroup     = "Group"
	TypeHost      = "Host"
	TypeWorkspace = "Workspace"
	TypePlugin    = "Plugin"
	TypePatch     = "Patch"
	TypeComponent = "Component"
	TypeProtocol  = "Protocol"
	typeAction    = "Action"
)

// schemaName is what the schema is published as.
const schemaName = "policy.cedarschema"

//go:embed policy.cedarschema
var schemaText string

// Schema returns the schema that policies are written against, in Cedar's own
// form.
func Schema() string { return schemaText }

// Actions returns the names of all actions that can be asked about, sorted.
func Actions() []string {
	return slices.Sorted(maps.Keys(theModel().actions))
}

// DoneOn returns the types of what an action is done on; nil where there is no such
// action.
func DoneOn(name string) []string {
	if a := theModel().actions[name]; a != nil {
		return texts(slices.Values(a.resources))
	}
	return nil
}

// closedTexts are attributes whose values are a closed set of texts, which
// Cedar's schema cannot say.
var closedTexts = map[string][]string{
	"trust":        {"system", "exterior"},
	"origin_trust": {"system", "exterior"},
	"token_type":   {"operation", "todo", "integration", "test"},
}

// An action as the index and the requests need it.
type action struct {
	entity    types.Entity
	groups    map[types.EntityUID]bool // itself and every group that it is in
	resources []types.EntityType
	context   resolved.RecordType
}

// model is the schema, resolved.
type model struct {
	schema    *resolved.Schema
	validator *validate.Validator
	actions   map[string]*action // those that apply to something, by name
	entities  types.EntityMap    // of all actions and their groups
}

// theModel is built once from the embedded schema.
var theModel = sync.OnceValue(func() *model {
	m, err := newModel(schemaText)
	if err != nil {
		panic(fmt.Sprintf("the built-in schema: %v", err)) // tests load it
	}
	return m
})

func newModel(text string) (*model, error) {
	var s schema.Schema
	s.SetFilename(schemaName)
	if err := s.UnmarshalCedar([]byte(text)); err != nil {
		return nil, err
	}
	r, err := s.Resolve()
	if err != nil {
		return nil, err
	}
	m := &model{schema: r, validator: validate.New(r), actions: make(map[string]*action), entities: make(types.EntityMap)}
	for uid, a := range r.Actions {
		m.entities[uid] = a.Entity
	}
	for uid, a := range r.Actions {
		if a.AppliesTo == nil {
			continue
		}
		m.actions[string(uid.ID)] = &action{
			entity: a.Entity, groups: m.ancestry(uid),
			resources: a.AppliesTo.Resources, context: a.AppliesTo.Context,
		}
	}
	return m, nil
}

// ancestry returns uid and all that it is in.
func (m *model) ancestry(uid types.EntityUID) map[types.EntityUID]bool {
	seen := map[types.EntityUID]bool{uid: true}
	for todo := []types.EntityUID{uid}; len(todo) > 0; todo = todo[1:] {
		for parent := range m.entities[todo[0]].Parents.All() {
			if !seen[parent] {
				seen[parent] = true
				todo = append(todo, parent)
			}
		}
	}
	return seen
}

// actionNames returns the names of all actions and groups of actions.
func (m *model) actionNames() []string {
	var names []string
	for uid := range m.schema.Actions {
		names = append(names, string(uid.ID))
	}
	return names
}

// typeNames returns the names of all entity types.
func (m *model) typeNames() []string {
	names := []string{typeAction}
	for t := range m.schema.Entities {
		names = append(names, string(t))
	}
	return names
}

// attributeNames returns the attributes of the type called name, or those of
// any context.
func (m *model) attributeNames(name string) []string {
	var names []string
	add := func(r resolved.RecordType) {
		for n := range r {
			names = append(names, string(n))
		}
	}
	if e, ok := m.schema.Entities[types.EntityType(name)]; ok {
		add(e.Shape)
		return names
	}
	for _, a := range m.actions {
		add(a.context)
	}
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// typesWith returns the entity types that have an attribute.
func (m *model) typesWith(name string) []string {
	var out []string
	for t, e := range m.schema.Entities {
		if _, ok := e.Shape[types.String(name)]; ok {
			out = append(out, string(t))
		}
	}
	slices.Sort(out)
	return out
}

// allAttributes returns the attributes of all entity types and contexts.
func (m *model) allAttributes() []string {
	names := m.attributeNames("")
	for t := range m.schema.Entities {
		names = append(names, m.attributeNames(string(t))...)
	}
	return names
}
