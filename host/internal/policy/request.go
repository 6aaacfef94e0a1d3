package policy

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
)

// An Agent asks.
type Agent struct {
	Name   string
	Trust  string // "system" or "exterior"
	Method string // what proved the identity
	Groups []string
}

// A Ref names an entity.
type Ref struct{ Type, ID string }

// String returns it as policies write it.
func (r Ref) String() string { return r.uid().String() }

func (r Ref) uid() types.EntityUID {
	return types.NewEntityUID(types.EntityType(r.Type), types.String(r.ID))
}

// A Resource is what an action is done on. Attributes are those that the schema
// gives its type: a text, a bool, a whole number, a list of them, a time, or a
// Ref. A text will do for any of them.
type Resource struct {
	Ref
	Attributes map[string]any
	In         []Ref
}

// TheHost is the resource of what is done on no single thing.
func TheHost() Resource { return Resource{Ref: Ref{Type: TypeHost, ID: "sop"}} }

// A Request asks for a decision.
type Request struct {
	Principal Agent
	Action    string
	Resource  Resource
	// Context holds what the schema gives the action. Method and time need
	// not be there: they are the principal's, and now.
	Context map[string]any
}

// ParseRef reads Type::"id", or Type::id.
func ParseRef(text string) (Ref, error) {
	typ, id, found := strings.Cut(text, "::")
	if !found || typ == "" || id == "" {
		return Ref{}, fmt.Errorf(`%q names no entity: write Type::"id"`, text)
	}
	if strings.HasPrefix(id, `"`) {
		unquoted, err := strconv.Unquote(id)
		if err != nil {
			return Ref{}, fmt.Errorf(`%q names no entity: write Type::"id"`, text)
		}
		id = unquoted
	}
	return Ref{typ, id}, nil
}

// cedarRequest is a request as Cedar takes it.
type cedarRequest struct {
	types.Request
	entities
}

// entities are those of one request, and the actions.
type entities struct {
	principal, resource types.Entity
	actions             types.EntityMap
}

// Get implements [types.EntityGetter].
func (e *entities) Get(uid types.EntityUID) (types.Entity, bool) {
	switch uid {
	case e.principal.UID:
		return e.principal, true
	case e.resource.UID:
		return e.resource, true
	}
	found, ok := e.actions[uid]
	return found, ok
}

// convert checks a request against the schema on the way.
func (m *model) convert(req *Request) (*cedarRequest, *action, error) {
	a := m.actions[req.Action]
	if a == nil {
		return nil, nil, fmt.Errorf("there is no action %q.%s", req.Action, didYouMean(req.Action, slices.Collect(maps.Keys(m.actions))))
	}
	out := &cedarRequest{entities: entities{actions: m.entities, principal: req.Principal.entity()}}
	if req.Principal.Name == "" {
		return nil, nil, fmt.Errorf("nobody asks")
	}
	if !slices.Contains(a.resources, types.EntityType(req.Resource.Type)) {
		return nil, nil, fmt.Errorf("%s is done on %s, not on %s", req.Action, typeList(a.resources), orNothing(req.Resource.Type))
	}
	shape := m.schema.Entities[types.EntityType(req.Resource.Type)].Shape
	attributes, err := m.record(shape, req.Resource.Attributes, nothing)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", req.Resource.Ref, err)
	}
	parents := make([]types.EntityUID, len(req.Resource.In))
	for i, p := range req.Resource.In {
		parents[i] = p.uid()
	}
	out.resource = types.Entity{UID: req.Resource.uid(), Parents: types.NewEntityUIDSet(parents...), Attributes: attributes}
	context, err := m.contextOf(a, req)
	if err != nil {
		return nil, nil, fmt.Errorf("context: %w", err)
	}
	out.Request = types.Request{Principal: out.principal.UID, Action: a.entity.UID, Resource: out.resource.UID, Context: context}
	return out, a, nil
}

func (a *Agent) entity() types.Entity {
	groups := make([]types.EntityUID, len(a.Groups))
	for i, g := range a.Groups {
		groups[i] = Ref{TypeGroup, g}.uid()
	}
	return types.Entity{
		UID: Ref{TypeAgent, a.Name}.uid(), Parents: types.NewEntityUIDSet(groups...),
		Attributes: types.NewRecord(types.RecordMap{
			"name": types.String(a.Name), "trust": types.String(a.Trust), "method": types.String(a.Method),
		}),
	}
}

func (m *model) contextOf(a *action, req *Request) (types.Record, error) {
	return m.record(a.context, req.Context, func(name types.String) any {
		switch name {
		case "method":
			return req.Principal.Method
		case "time":
			return time.Now()
		}
		return nil
	})
}

// nothing is for attributes that have no default.
func nothing(types.String) any { return nil }

// record converts values to what the schema says; it takes no other, and misses
// those that must be there and have no default.
func (m *model) record(shape resolved.RecordType, values map[string]any, otherwise func(types.String) any) (types.Record, error) {
	if len(shape) == 0 && len(values) == 0 {
		return types.Record{}, nil
	}
	for name := range values {
		if _, known := shape[types.String(name)]; !known {
			return types.Record{}, fmt.Errorf("there is no attribute %q.%s", name, didYouMean(name, texts(maps.Keys(shape))))
		}
	}
	out := make(types.RecordMap, len(shape))
	for name, attribute := range shape {
		value, given := values[string(name)]
		if !given {
			value = otherwise(name)
		}
		switch {
		case value == nil && attribute.Optional:
			continue
		case value == nil:
			return types.Record{}, fmt.Errorf("the attribute %q is missing", name)
		}
		converted, err := convertValue(attribute.Type, value)
		if err != nil {
			return types.Record{}, fmt.Errorf("%s: %w", name, err)
		}
		if err := checkClosed(name, converted); err != nil {
			return types.Record{}, err
		}
		out[name] = converted
	}
	return types.NewRecord(out), nil
}

// checkClosed refuses a text that is none of a closed set.
func checkClosed(name types.String, v types.Value) error {
	text, isText := v.(types.String)
	allowed := closedTexts[string(name)]
	if !isText || allowed == nil || slices.Contains(allowed, string(text)) {
		return nil
	}
	return fmt.Errorf("%s: %q is none of %s.%s", name, text, strings.Join(allowed, ", "), didYouMean(string(text), allowed))
}

// convertValue converts a value, or a text that stands for it.
func convertValue(want resolved.IsType, v any) (types.Value, error) {
	text, isText := v.(string)
	switch want := want.(type) {
	case resolved.StringType:
		if isText {
			return types.String(text), nil
		}
	case resolved.BoolType:
		if b, ok := v.(bool); ok {
			return types.Boolean(b), nil
		}
		if isText && (text == "true" || text == "false") {
			return types.Boolean(text == "true"), nil
		}
	case resolved.LongType:
		return convertLong(v)
	case resolved.ExtensionType:
		if t, ok := v.(time.Time); ok {
			return types.NewDatetime(t), nil
		}
		return types.ParseDatetime(text)
	case resolved.EntityType:
		return convertEntity(string(want), v)
	case resolved.SetType:
		return convertSet(want.Element, v)
	}
	return nil, fmt.Errorf("%v is no %s", v, typeName(want))
}

func convertLong(v any) (types.Value, error) {
	switch n := v.(type) {
	case int:
		return types.Long(n), nil
	case int64:
		return types.Long(n), nil
	case string:
		if parsed, err := strconv.ParseInt(n, 10, 64); err == nil {
			return types.Long(parsed), nil
		}
	}
	return nil, fmt.Errorf("%v is no whole number", v)
}

// convertEntity takes a Ref, Type::"id", or the id alone.
func convertEntity(typ string, v any) (types.Value, error) {
	ref, ok := v.(Ref)
	if text, isText := v.(string); isText {
		ref, ok = Ref{typ, text}, true
		if strings.HasPrefix(text, typ+"::") {
			parsed, err := ParseRef(text)
			if err != nil {
				return nil, err
			}
			ref = parsed
		}
	}
	if !ok || ref.Type != typ {
		return nil, fmt.Errorf("%v is no %s", v, typ)
	}
	return ref.uid(), nil
}

func convertSet(element resolved.IsType, v any) (types.Value, error) {
	var parts []any
	switch list := v.(type) {
	case []any:
		parts = list
	case []string:
		for _, p := range list {
			parts = append(parts, p)
		}
	case string:
		for p := range strings.SplitSeq(list, ",") {
			if p = strings.TrimSpace(p); p != "" {
				parts = append(parts, p)
			}
		}
	default:
		return nil, fmt.Errorf("%v is no list", v)
	}
	values := make([]types.Value, len(parts))
	for i, p := range parts {
		converted, err := convertValue(element, p)
		if err != nil {
			return nil, err
		}
		values[i] = converted
	}
	return types.NewSet(values...), nil
}

func typeName(t resolved.IsType) string {
	switch t := t.(type) {
	case resolved.StringType:
		return "text"
	case resolved.BoolType:
		return "true or false"
	case resolved.EntityType:
		return string(t)
	default:
		return "such value"
	}
}

func typeList(all []types.EntityType) string { return strings.Join(texts(slices.Values(all)), " or ") }

func texts[T ~string](all iter.Seq[T]) []string {
	var out []string
	for t := range all {
		out = append(out, string(t))
	}
	return out
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
