package api

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// strictJSON reads requests in JSON as Connect does, but refuses fields that the
// message has not: a misspelt "validateOnly" would make the change that was only to be
// checked. A newer client learns so, too, that this host does not know what it asks.
type strictJSON struct{ name string }

// jsonNames are the content types of JSON, without what is before the subtype.
var jsonNames = []string{"json", "json; charset=utf-8"}

var (
	errNotMessage = errors.New("no message of protobuf")
	errNoJSON     = errors.New("an empty body is no JSON object: send {}")
)

// Name implements [connect.Codec].
func (c strictJSON) Name() string { return c.name }

// Marshal implements [connect.Codec].
func (c strictJSON) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend saves Connect a copy.
func (strictJSON) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotMessage
	}
	return protojson.MarshalOptions{}.MarshalAppend(dst, m)
}

// Unmarshal implements [connect.Codec].
func (strictJSON) Unmarshal(text []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotMessage
	}
	if len(text) == 0 {
		return errNoJSON
	}
	if err := protojson.Unmarshal(text, m); err != nil {
		return fmt.Errorf("read %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
