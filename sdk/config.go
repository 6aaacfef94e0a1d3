package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Attribute types, in the form that [Attribute.Type] takes.
const (
	String     = `"string"`
	Number     = `"number"`
	Bool       = `"bool"`
	StringList = `["list","string"]`
	StringMap  = `["map","string"]`
)

// Schema describes the `config { }` block that a plugin accepts. The zero value
// accepts an empty block only.
type Schema struct {
	Attributes []Attribute
	Blocks     []Block
}

// Nesting says how often a block may stand and how it decodes.
type Nesting = pluginv1.ConfigBlock_Nesting

// The nestings.
const (
	// Single is at most one block; an object, or absent.
	Single = pluginv1.ConfigBlock_NESTING_SINGLE
	// List is any number of blocks; an array of objects.
	List = pluginv1.ConfigBlock_NESTING_LIST
	// Labelled is any number of blocks with one label each; an object by label.
	Labelled = pluginv1.ConfigBlock_NESTING_MAP
)

// Block is a block nested in another.
type Block struct {
	Name    string
	Nesting Nesting
	Schema  Schema
}

// Attribute is one `name = value` of the block.
type Attribute struct {
	Name string
	// Type is a cty type in its JSON form, such as [String].
	Type string
	// Description is for people: one or two sentences, with the unit.
	Description string
	// Default is marshalled to JSON; nil means that there is none.
	Default any
	// Required attributes have no default.
	Required bool
	// Sensitive values are never shown.
	Sensitive bool
}

// proto converts s; it fails when a default cannot be marshalled.
func (s Schema) proto() (*pluginv1.ConfigSchema, error) {
	out := &pluginv1.ConfigSchema{}
	for _, a := range s.Attributes {
		pa := &pluginv1.ConfigAttribute{
			Name: a.Name, Type: a.Type, Description: a.Description,
			Required: a.Required, Sensitive: a.Sensitive,
		}
		if a.Default != nil {
			def, err := json.Marshal(a.Default)
			if err != nil {
				return nil, fmt.Errorf("default of config attribute %q: %w", a.Name, err)
			}
			pa.DefaultJson = string(def)
		}
		out.Attributes = append(out.Attributes, pa)
	}
	for _, b := range s.Blocks {
		nested, err := b.Schema.proto()
		if err != nil {
			return nil, fmt.Errorf("config block %q: %w", b.Name, err)
		}
		out.Blocks = append(out.Blocks, &pluginv1.ConfigBlock{Name: b.Name, Nesting: b.Nesting, Schema: nested})
	}
	return out, nil
}

// Config is the configuration of one generation of a plugin.
type Config struct {
	json []byte
	// StateDir is an absolute path of a directory that belongs to this plugin
	// alone and outlives the generation.
	StateDir string
	// Host takes the plugin's requests; its methods fail where it is nil.
	Host *Host
}

// NewConfig returns a configuration as the host hands it over, for the tests of
// a plugin: block is a JSON object.
func NewConfig(block []byte, stateDir string) *Config {
	return &Config{json: block, StateDir: stateDir}
}

// Decode unmarshals the block into dst, a pointer to a struct with json tags
// named as the attributes. The host has checked types and required attributes; a
// number that the field cannot hold is a [ConfigError].
func (c *Config) Decode(dst any) error {
	if len(c.json) == 0 {
		return nil
	}
	err := json.Unmarshal(c.json, dst)
	var misfit *json.UnmarshalTypeError
	if errors.As(err, &misfit) {
		return misfitError(c.json, misfit)
	}
	if err != nil {
		return fmt.Errorf("decode plugin config: %w", err)
	}
	return nil
}

// misfitError is about the attribute that does not fit its field.
func misfitError(block []byte, misfit *json.UnmarshalTypeError) *ConfigError {
	e := &ConfigError{Summary: fmt.Sprintf("%s cannot be taken as %s", misfit.Value, misfit.Type)}
	if number, ok := strings.CutPrefix(misfit.Value, "number "); ok && misfit.Type.Kind() >= reflect.Int && misfit.Type.Kind() <= reflect.Uint64 {
		e.Summary, e.Detail = number+" is no whole number, or is too large", "write a whole number"
	}
	fields := strings.Split(misfit.Field, ".")
	if e.Attribute = fields[0]; len(fields) == 1 {
		return e
	}
	e.Block, e.Attribute = fields[0], fields[1]
	path, _ := pathTo(json.NewDecoder(bytes.NewReader(block)), misfit.Offset)
	if len(path) < 2 {
		return e
	}
	switch step := path[1].(type) {
	case int:
		e.Index = step
	case string:
		if step != e.Attribute || len(path) > 2 && path[2] == any(e.Attribute) {
			e.Label = step
		}
	}
	return e
}

// pathTo returns the names and positions that lead to the value of a JSON document
// that ends at an offset, or the first after it.
func pathTo(dec *json.Decoder, offset int64) (path []any, found bool) {
	token, err := dec.Token()
	switch token {
	case json.Delim('{'):
		for dec.More() {
			name, _ := dec.Token() // an error comes again
			if path, found = pathTo(dec, offset); found {
				return append([]any{name}, path...), true
			}
		}
		_, err = dec.Token()
	case json.Delim('['):
		for i := 0; dec.More(); i++ {
			if path, found = pathTo(dec, offset); found {
				return append([]any{i}, path...), true
			}
		}
		_, err = dec.Token()
	}
	return nil, err != nil || dec.InputOffset() >= offset
}

// ConfigError is a finding about one attribute. The host shows it with file,
// line and caret. Return several with [errors.Join].
type ConfigError struct {
	// Block and Label name the nested block it is about; empty means none.
	Block, Label string
	// Index says which one of several blocks without labels it is, from 0.
	Index int
	// Attribute is the name it is about; empty means the whole block.
	Attribute string
	// Summary says what is wrong.
	Summary string
	// Detail says what to do.
	Detail string
}

// Error returns the summary with the attribute's name.
func (e *ConfigError) Error() string {
	block := e.Block
	if e.Index > 0 {
		block = fmt.Sprintf("%s[%d]", block, e.Index)
	}
	where := strings.Join(slices.DeleteFunc([]string{block, e.Label, e.Attribute}, func(s string) bool { return s == "" }), ".")
	if where == "" {
		return e.Summary
	}
	return where + ": " + e.Summary
}

// path is where the error is.
func (e *ConfigError) path() []*pluginv1.PathStep {
	var steps []*pluginv1.PathStep
	if e.Block != "" {
		steps = append(steps, &pluginv1.PathStep{Step: &pluginv1.PathStep_Name{Name: e.Block}})
	}
	if e.Block != "" && e.Index > 0 { // the first stands for the name alone
		steps = append(steps, &pluginv1.PathStep{Step: &pluginv1.PathStep_Index{Index: int64(e.Index)}})
	}
	if e.Label != "" {
		steps = append(steps, &pluginv1.PathStep{Step: &pluginv1.PathStep_Key{Key: e.Label}})
	}
	if e.Attribute != "" {
		steps = append(steps, &pluginv1.PathStep{Step: &pluginv1.PathStep_Name{Name: e.Attribute}})
	}
	return steps
}

// configDiagnostics turns what Configure returned into diagnostics.
func configDiagnostics(err error) []*pluginv1.ConfigDiagnostic {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*pluginv1.ConfigDiagnostic
		for _, e := range joined.Unwrap() {
			all = append(all, configDiagnostics(e)...)
		}
		return all
	}
	d := &pluginv1.ConfigDiagnostic{Level: pluginv1.ConfigDiagnostic_LEVEL_ERROR, Summary: err.Error()}
	var own *Error
	if errors.As(err, &own) {
		d.Detail = own.Remedy
		if own.Reason != "" {
			d.Summary += " (" + own.Reason + ")"
		}
	}
	if ce, ok := err.(*ConfigError); ok { //nolint:errorlint // a wrapped ConfigError says more with its wrapping
		d.Summary, d.Detail, d.Path = ce.Summary, ce.Detail, ce.path()
	}
	return []*pluginv1.ConfigDiagnostic{d}
}

// ConfigureFunc takes a generation's configuration before its first call.
type ConfigureFunc func(ctx context.Context, c *Config) error
