package audit

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// The payload of a request is in each of its records, whatever else they say.
func TestPayload(t *testing.T) {
	crowded := map[string]string{AttributePayloadSum: "forged", AttributePayloadSize: "0"}
	for i := range 2 * maxAttribute {
		crowded[fmt.Sprint("a", i)] = "v"
	}
	encoded := 0
	ctx := WithPayload(t.Context(), NewPayload(func() ([]byte, error) { encoded++; return []byte("abc"), nil }))
	if encoded != 0 {
		t.Error("it was encoded before there was a record")
	}
	HashPayload(ctx)
	for _, attributes := range []map[string]string{nil, {"k": "v"}, crowded} {
		r := Record{Attributes: attributes}
		Seal(ctx, &Head{}, &r)
		const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
		if r.Attributes[AttributePayloadSum] != abc || r.Attributes[AttributePayloadSize] != "3" {
			t.Errorf("with %d attributes: %v", len(attributes), r.Attributes)
		}
	}
	if encoded != 1 || crowded[AttributePayloadSum] != "forged" {
		t.Errorf("encoded %d times; the caller's map has %q", encoded, crowded[AttributePayloadSum])
	}
	r := Record{}
	Seal(WithPayload(t.Context(), NewPayload(func() ([]byte, error) { return nil, errors.New("no") })), &Head{}, &r)
	if r.Attributes[AttributePayloadSum] == "" {
		t.Error("a payload without an encoding is not mentioned")
	}
	r = Record{}
	HashPayload(context.Background())
	Seal(t.Context(), &Head{}, &r)
	if r.Attributes != nil {
		t.Errorf("without a payload: %v", r.Attributes)
	}
}
