package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// wire marshals an API message to JSON for scripts: the names of the proto
// file in its order, every scalar and list present, absent messages left out,
// and all numbers as numbers, where protojson writes 64 bits as strings.
type wire struct{ proto.Message }

// MarshalJSON implements json.Marshaler.
func (w wire) MarshalJSON() ([]byte, error) {
	if w.Message == nil || !w.ProtoReflect().IsValid() {
		return []byte("null"), nil
	}
	var b bytes.Buffer
	err := writeMessage(&b, w.ProtoReflect())
	return b.Bytes(), err
}

func wires[M proto.Message](messages []M) []wire {
	out := make([]wire, len(messages))
	for i, m := range messages {
		out[i] = wire{m}
	}
	return out
}

// printJSON writes v indented and as it is, without HTML escapes.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printJSONLine writes v on one line.
func printJSONLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func writeMessage(b *bytes.Buffer, m protoreflect.Message) error {
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		raw, err := protojson.Marshal(m.Interface()) // a string: a time or a duration
		b.Write(raw)
		return err
	}
	b.WriteByte('{')
	fields := m.Descriptor().Fields()
	first := true
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.HasPresence() && !m.Has(field) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		writeString(b, string(field.Name()))
		b.WriteByte(':')
		if err := writeField(b, field, m.Get(field)); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeField(b *bytes.Buffer, field protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case field.IsMap():
		return writeMap(b, field, v.Map())
	case field.IsList():
		return writeList(b, field, v.List())
	}
	return writeScalar(b, field, v)
}

func writeList(b *bytes.Buffer, field protoreflect.FieldDescriptor, list protoreflect.List) error {
	b.WriteByte('[')
	for i := range list.Len() {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeScalar(b, field, list.Get(i)); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

func writeMap(b *bytes.Buffer, field protoreflect.FieldDescriptor, m protoreflect.Map) error {
	var keys []protoreflect.MapKey
	m.Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, key)
		return true
	})
	slices.SortFunc(keys, func(x, y protoreflect.MapKey) int { return bytes.Compare([]byte(x.String()), []byte(y.String())) })
	b.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		writeString(b, key.String())
		b.WriteByte(':')
		if err := writeScalar(b, field.MapValue(), m.Get(key)); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeScalar(b *bytes.Buffer, field protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return writeMessage(b, v.Message())
	case protoreflect.StringKind:
		writeString(b, v.String())
	case protoreflect.BoolKind:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case protoreflect.Uint32Kind:
		b.WriteString(strconv.FormatUint(v.Uint(), 10))
	case protoreflect.BytesKind:
		return writeBytes(b, v.Bytes())
	case protoreflect.DoubleKind:
		if math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
			return fmt.Errorf("field %s: %v has no JSON form", field.FullName(), v.Float())
		}
		b.WriteString(strconv.FormatFloat(v.Float(), 'f', -1, 64))
	default:
		return fmt.Errorf("field %s: no JSON form for %s", field.FullName(), field.Kind())
	}
	return nil
}

// writeBytes writes a path as it is on disk: a string, or an object with base64
// where it is not UTF-8.
func writeBytes(b *bytes.Buffer, raw []byte) error {
	if utf8.Valid(raw) {
		writeString(b, string(raw))
		return nil
	}
	text, err := json.Marshal(map[string][]byte{"base64": raw})
	b.Write(text)
	return err
}

func writeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always has a form
	b.Truncate(b.Len() - 1)
}
