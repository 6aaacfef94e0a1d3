package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sop-host/sop/docs"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// document is what the tests look at.
type document struct {
	OpenAPI string
	Info    struct{ Title, Version string }
	Paths   map[string]map[string]operation
	Tags    []struct{ Name, Description string }

	Components struct {
		Schemas map[string]struct{ Properties map[string]any }
	}
}

type operation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Permission  string `json:"x-sop-permission"`
	Streaming   string `json:"x-sop-streaming"`
	RequestBody struct{ Content map[string]media }
	Responses   map[string]struct {
		Description string
		Content     map[string]media
	}
}

type media struct {
	Schema struct {
		Ref string `json:"$ref"`
	}
}

func read(t *testing.T) (d document) {
	t.Helper()
	if err := json.Unmarshal(docs.OpenAPI, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// each calls fn for each method of the API that is linked in.
func each(fn func(protoreflect.MethodDescriptor)) {
	protoregistry.GlobalFiles.RangeFilesByPackage("sop.api.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				fn(methods.Get(j))
			}
		}
		return true
	})
}

// Every method is there with its permission, its messages and its errors; and
// no method is there that is not.
func TestMethodsAreFresh(t *testing.T) {
	d := read(t)
	if d.OpenAPI != "3.1.0" || d.Info.Title == "" || d.Info.Version == "" {
		t.Errorf("head: %q, %+v", d.OpenAPI, d.Info)
	}
	seen := map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true, "/openapi.json": true}
	ids := make(map[string]bool)
	each(func(m protoreflect.MethodDescriptor) {
		path := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
		seen[path] = true
		op, ok := d.Paths[path]["post"]
		if !ok {
			t.Errorf("%s is not in docs/openapi.json: run make generate", path)
			return
		}
		permission, _ := proto.GetExtension(m.Options(), apiv1.E_Permission).(string)
		if op.Permission != permission || permission == "" || op.Summary == "" || ids[op.OperationID] {
			t.Errorf("%s: permission %q, want %q; summary %q; id %q", path, op.Permission, permission, op.Summary, op.OperationID)
		}
		ids[op.OperationID] = true
		kind := "application/json"
		if m.IsStreamingServer() || m.IsStreamingClient() {
			kind = "application/connect+json"
		}
		if (kind == "application/json") != (op.Streaming == "") {
			t.Errorf("%s: streaming %q", path, op.Streaming)
		}
		const schema = "#/components/schemas/"
		for _, got := range [][2]string{
			{op.RequestBody.Content[kind].Schema.Ref, schema + string(m.Input().FullName())},
			{op.Responses["200"].Content[kind].Schema.Ref, schema + string(m.Output().FullName())},
			{op.Responses["default"].Content["application/json"].Schema.Ref, schema + "Error"},
		} {
			if got[0] != got[1] {
				t.Errorf("%s: %q, want %q", path, got[0], got[1])
			}
		}
	})
	for path := range d.Paths {
		if !seen[path] {
			t.Errorf("%s is no method any more: run make generate", path)
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d paths", len(seen))
	}
}

// messages returns everything that methods take and answer.
func messages() map[protoreflect.FullName]protoreflect.MessageDescriptor {
	all := map[protoreflect.FullName]protoreflect.MessageDescriptor{}
	var add func(m protoreflect.MessageDescriptor)
	add = func(m protoreflect.MessageDescriptor) {
		if all[m.FullName()] != nil || m.ParentFile().Package() != "sop.api.v1" {
			return
		}
		if !m.IsMapEntry() {
			all[m.FullName()] = m
		}
		for i := range m.Fields().Len() {
			if f := m.Fields().Get(i); f.Message() != nil {
				add(f.Message())
			}
		}
	}
	each(func(m protoreflect.MethodDescriptor) {
		add(m.Input())
		add(m.Output())
	})
	return all
}

// Every reference leads somewhere, every schema is one, and what the host
// writes for a message with every field set fits its schema, which knows every
// field of it.
func TestSchemasFitTheMessages(t *testing.T) {
	d := read(t)
	raw, err := jsonschema.UnmarshalJSON(bytes.NewReader(docs.OpenAPI))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource("https://sop.test/openapi.json", raw); err != nil {
		t.Fatal(err)
	}
	for name := range d.Components.Schemas {
		if _, err := compiler.Compile("https://sop.test/openapi.json#/components/schemas/" + name); err != nil {
			t.Errorf("%s is no schema: %v", name, err)
		}
	}
	for name, m := range messages() {
		schema, err := compiler.Compile("https://sop.test/openapi.json#/components/schemas/" + string(name))
		if err != nil {
			t.Errorf("%s: %v; run make generate", name, err)
			continue
		}
		if got, want := len(d.Components.Schemas[string(name)].Properties), m.Fields().Len(); got != want {
			t.Errorf("%s has %d properties, the message %d fields: run make generate", name, got, want)
		}
		for i := range m.Fields().Len() {
			if field := m.Fields().Get(i).JSONName(); d.Components.Schemas[string(name)].Properties[field] == nil {
				t.Errorf("%s lacks %s: run make generate", name, field)
			}
		}
		text, err := protojson.Marshal(full(m, 4))
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance); err != nil {
			t.Errorf("%s: %s does not fit: %v", name, text, err)
		}
	}
	for ref := range strings.SplitSeq(string(docs.OpenAPI), `"$ref": "#/`) {
		path, _, _ := strings.Cut(ref, `"`)
		if name, ok := strings.CutPrefix(path, "components/schemas/"); ok {
			if _, there := d.Components.Schemas[name]; !there {
				t.Errorf("%s leads nowhere", path)
			}
		}
	}
}

// full returns a message with every field set, as deep as that.
func full(m protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	out := dynamicpb.NewMessage(m)
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		switch {
		case f.Message() != nil && depth == 0:
		case f.IsMap():
			key := value(f.MapKey(), depth).MapKey()
			out.Mutable(f).Map().Set(key, value(f.MapValue(), depth))
		case f.IsList():
			out.Mutable(f).List().Append(value(f, depth))
		default:
			out.Set(f, value(f, depth))
		}
	}
	return out
}

func value(f protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("x")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, 255})
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(1.5)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1.5)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(-7)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(7)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(-1 << 60)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(1 << 60)
	}
	if f.Message().FullName() == "google.protobuf.Any" {
		return protoreflect.ValueOfMessage(dynamicpb.NewMessage(f.Message()))
	}
	if strings.HasPrefix(string(f.Message().FullName()), "google.protobuf.") {
		return protoreflect.ValueOfMessage(small(f.Message()))
	}
	return protoreflect.ValueOfMessage(full(f.Message(), depth-1))
}

// small is a well-known message within its bounds.
func small(m protoreflect.MessageDescriptor) *dynamicpb.Message {
	out := dynamicpb.NewMessage(m)
	for _, name := range []protoreflect.Name{"seconds", "nanos"} {
		if f := m.Fields().ByName(name); f != nil && f.Kind() == protoreflect.Int64Kind {
			out.Set(f, protoreflect.ValueOfInt64(1700000000))
		} else if f != nil {
			out.Set(f, protoreflect.ValueOfInt32(500000000))
		}
	}
	return out
}
