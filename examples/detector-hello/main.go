// Command detector-hello is a SOP detector plugin as a third party would write
// it: a module of its own that imports the sdk and nothing else of SOP. It
// reports every text file that does not say hello.
package main

import (
	"bytes"
	"context"
	"strings"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

const rule = "hello.greeting"

func main() {
	h := &hello{}
	sdk.Serve(detector.Kind, sdk.Plugin[detector.Detector]{
		Name:    "hello",
		Version: "1.0.0",
		Summary: "Finds text files that do not greet the reader.",
		Schema: sdk.Schema{Attributes: []sdk.Attribute{{
			Name: "greeting", Type: sdk.String, Default: "hello",
			Description: "What a text file has to contain.",
		}}},
		Configure: h.configure,
		Impl:      h,
	})
}

// hello implements [detector.Detector].
type hello struct {
	greeting []byte
}

func (h *hello) configure(_ context.Context, c *sdk.Config) error {
	var settings struct {
		Greeting string `json:"greeting"`
	}
	if err := c.Decode(&settings); err != nil {
		return err
	}
	if settings.Greeting == "" {
		return &sdk.ConfigError{Attribute: "greeting", Summary: "the greeting is empty", Detail: "Name a word that every text file should contain."}
	}
	h.greeting = []byte(settings.Greeting)
	return nil
}

// Rules implements [detector.Detector].
func (h *hello) Rules(context.Context) ([]*pluginv1.Rule, error) {
	return []*pluginv1.Rule{{
		Id: rule, Version: "1", Summary: "A text file does not greet the reader.",
		Type:            pluginv1.GapType_GAP_TYPE_DOCUMENTATION_INCOMPLETE,
		DefaultSeverity: pluginv1.Severity_SEVERITY_INFO,
	}}, nil
}

// Scan implements [detector.Detector].
func (h *hello) Scan(ctx context.Context, s *detector.Scan) error {
	isText := func(f detector.File) bool { return strings.HasSuffix(f.Path, ".txt") }
	return s.Each(ctx, isText, func(src *detector.Source) error {
		if bytes.Contains(src.Content, h.greeting) {
			return nil
		}
		src.Report(&pluginv1.Finding{
			Rule:     rule,
			Location: &pluginv1.Location{Line: 1},
			Message:  "the file does not say " + string(h.greeting),
			Remedy:   "Greet the reader in the first line.",
		})
		return nil
	})
}
