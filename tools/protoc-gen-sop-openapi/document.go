package main

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// object is a JSON object; its keys are written in order.
type object = map[string]any

// document is the document under construction.
type document struct {
	options    *dynamicpb.Types // resolves the options that our files define
	permission protoreflect.ExtensionType
	paths      object
	tags       []any
	schemas    object
}

const permissionOption = "sop.api.v1.permission"

func newDocument(plugin *protogen.Plugin) (*document, error) {
	files, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: plugin.Request.GetProtoFile()})
	if err != nil {
		return nil, err
	}
	d := &document{options: dynamicpb.NewTypes(files), paths: hostPaths(), schemas: errorSchemas()}
	d.permission, err = d.options.FindExtensionByName(permissionOption)
	if err != nil {
		return nil, fmt.Errorf("there is no option %s: %w", permissionOption, err)
	}
	return d, nil
}

func (d *document) root() object {
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title":   "SOP host",
			"version": "v1",
			"description": "What the SOP host serves on its socket, `data_dir/state/sop.sock`. Every method is a POST of a JSON object; gRPC and gRPC-Web are served on the same paths.\n\n" +
				"    curl --unix-socket .sop/state/sop.sock -H 'Content-Type: application/json' -d '{}' http://sop/sop.api.v1.Host/GetStatus",
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers":    []any{object{"url": "http://sop", "description": "The host's unix socket; any name will do."}},
		"tags":       d.tags,
		"paths":      d.paths,
		"components": object{"schemas": d.schemas, "parameters": parameters()},
	}
}

func (d *document) service(s *protogen.Service) error {
	name := string(s.Desc.FullName())
	d.tags = append(d.tags, object{"name": name, "description": comment(s.Comments)})
	for _, m := range s.Methods {
		operation, err := d.operation(name, m)
		if err != nil {
			return err
		}
		d.paths["/"+name+"/"+string(m.Desc.Name())] = object{"post": operation}
	}
	return nil
}

func (d *document) operation(service string, m *protogen.Method) (object, error) {
	permission, err := d.permissionOf(m)
	if err != nil {
		return nil, err
	}
	text := comment(m.Comments)
	if text == "" {
		text = words(string(m.Desc.Name()))
	}
	media := "application/json"
	op := object{
		"operationId": string(m.Desc.FullName()), "tags": []any{service}, "summary": summary(text), "description": text,
		"x-sop-permission": permission,
		"parameters":       parameterRefs(),
	}
	if m.Desc.IsStreamingServer() || m.Desc.IsStreamingClient() {
		media = "application/connect+json"
		op["x-sop-streaming"] = streaming(m)
		op["description"] = text + "\n\nA stream: each message has five bytes before it, a byte of flags and its length in four bytes, big-endian. The last message, with the flag 2, says how the call ended."
	}
	op["requestBody"] = object{"required": true, "content": content(media, d.message(m.Input))}
	op["responses"] = object{
		"200":     object{"description": "What was asked for.", "content": content(media, d.message(m.Output))},
		"default": object{"description": "The call failed.", "content": content("application/json", ref("Error"))},
	}
	return op, nil
}

func streaming(m *protogen.Method) string {
	switch {
	case !m.Desc.IsStreamingClient():
		return "server"
	case !m.Desc.IsStreamingServer():
		return "client"
	}
	return "both"
}

// permissionOf reads the option, which only the files themselves define.
func (d *document) permissionOf(m *protogen.Method) (string, error) {
	raw, err := proto.Marshal(m.Desc.Options())
	if err != nil {
		return "", err
	}
	options := new(descriptorpb.MethodOptions)
	if err := (proto.UnmarshalOptions{Resolver: resolver{d.options}}).Unmarshal(raw, options); err != nil {
		return "", err
	}
	permission, _ := proto.GetExtension(options, d.permission).(string)
	if permission == "" {
		return "", fmt.Errorf("%s states no permission", m.Desc.FullName())
	}
	return permission, nil
}

// resolver finds the extensions of our files.
type resolver struct{ *dynamicpb.Types }

var _ interface {
	FindExtensionByName(protoreflect.FullName) (protoreflect.ExtensionType, error)
	FindExtensionByNumber(protoreflect.FullName, protoreflect.FieldNumber) (protoreflect.ExtensionType, error)
} = resolver{}

var _ protoregistry.ExtensionTypeResolver = resolver{}

func content(media string, schema object) object {
	return object{media: object{"schema": schema}}
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// comment returns the text of a leading comment.
func comment(c protogen.CommentSet) string {
	lines := strings.Split(strings.TrimSpace(string(c.Leading)), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, " ")
	}
	return strings.Join(lines, "\n")
}

// words writes a name such as ListGaps as a sentence.
func words(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String() + "."
}

// summary is the first sentence.
func summary(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if first, _, more := strings.Cut(text, ". "); more {
		return first + "."
	}
	return text
}
