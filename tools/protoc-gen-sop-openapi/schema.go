package main

import (
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// wellKnown are the messages that have a JSON form of their own.
var wellKnown = map[protoreflect.FullName]object{
	"google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
	"google.protobuf.Duration":  {"type": "string", "pattern": `^-?[0-9]+(\.[0-9]{1,9})?s$`, "examples": []any{"1.5s"}},
	"google.protobuf.FieldMask": {"type": "string"},
	"google.protobuf.Empty":     {"type": "object"},
	"google.protobuf.Struct":    {"type": "object"},
	"google.protobuf.ListValue": {"type": "array"},
	"google.protobuf.Value":     {},
	"google.protobuf.Any":       {"type": "object", "properties": object{"@type": object{"type": "string"}}, "required": []any{"@type"}},
}

// message returns a reference to the schema of a message, which it makes when
// it is first asked for.
func (d *document) message(m *protogen.Message) object {
	if own, ok := wellKnown[m.Desc.FullName()]; ok {
		return own
	}
	name := string(m.Desc.FullName())
	if _, made := d.schemas[name]; made {
		return ref(name)
	}
	properties := object{}
	schema := object{"type": "object", "properties": properties}
	d.schemas[name] = schema // before its fields: a message may hold itself
	if text := comment(m.Comments); text != "" {
		schema["description"] = text
	}
	for _, f := range m.Fields {
		properties[f.Desc.JSONName()] = described(d.field(f), f)
	}
	return ref(name)
}

// described adds what is said about a field.
func described(schema object, f *protogen.Field) object {
	text := comment(f.Comments)
	if o := f.Oneof; o != nil && !o.Desc.IsSynthetic() {
		if text != "" {
			text += "\n\n"
		}
		text += "At most one field of " + string(o.Desc.Name()) + " is set."
	}
	if text == "" {
		return schema
	}
	out := object{"description": text}
	for key, value := range schema {
		out[key] = value
	}
	return out
}

func (d *document) field(f *protogen.Field) object {
	switch {
	case f.Desc.IsMap():
		return object{"type": "object", "additionalProperties": d.value(f.Message.Fields[1])}
	case f.Desc.IsList():
		return object{"type": "array", "items": d.value(f)}
	}
	return d.value(f)
}

// value is one element of a field.
func (d *document) value(f *protogen.Field) object {
	switch f.Desc.Kind() {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.StringKind:
		return object{"type": "string"}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return object{"type": "number"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer", "format": "uint32", "minimum": 0}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": []any{"string", "integer"}, "format": "int64"} // written as a string: a double does not hold them all
	case protoreflect.EnumKind:
		return d.enum(f.Enum)
	}
	return d.message(f.Message)
}

func (d *document) enum(e *protogen.Enum) object {
	name := string(e.Desc.FullName())
	values := make([]any, len(e.Values))
	for i, v := range e.Values {
		values[i] = string(v.Desc.Name())
	}
	schema := object{"type": "string", "enum": values}
	if text := comment(e.Comments); text != "" {
		schema["description"] = text
	}
	d.schemas[name] = schema
	return ref(name)
}
