// Command protoc-gen-sop-openapi writes the OpenAPI document of sop.api.v1 from
// the proto files: every method as Connect serves it over HTTP, in JSON, with
// the permission that it takes and the errors that it answers with. buf runs it;
// see proto/buf.gen.openapi.yaml.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	protogen.Options{}.Run(func(plugin *protogen.Plugin) error {
		plugin.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
		d, err := newDocument(plugin)
		if err != nil {
			return err
		}
		for _, file := range plugin.Files {
			if !file.Generate {
				continue
			}
			for _, service := range file.Services {
				if err := d.service(service); err != nil {
					return err
				}
			}
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(d.root()); err != nil {
			return fmt.Errorf("encode the document: %w", err)
		}
		_, err = plugin.NewGeneratedFile("openapi.json", "").Write(text.Bytes())
		return err
	})
}
