package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/sop-host/sop/sdk"
)

// The framings and the dialects.
const (
	framingLines  = "lines"
	framingLength = "content-length"
	dialectSOP    = "sop"
	dialectRPC    = "jsonrpc"
)

var schema = sdk.Schema{Attributes: []sdk.Attribute{
	{Name: "command", Type: sdk.StringList, Required: true, Description: "The program, by an absolute path, and its arguments."},
	{Name: "directory", Type: sdk.String, Default: "", Description: "Where it runs; a directory of the plugin's own unless it is set."},
	{Name: "env", Type: sdk.StringMap, Default: map[string]string{}, Description: "Its environment, beside PATH and LANG.", Sensitive: true},
	{Name: "framing", Type: sdk.String, Default: framingLines, Description: `"lines", one JSON text each, or "content-length", with a header before each.`},
	{Name: "dialect", Type: sdk.String, Default: dialectSOP, Description: `"sop", or "jsonrpc" for JSON-RPC 2.0.`},
	{Name: "operations", Type: sdk.StringList, Default: []string{}, Description: "What it can do; all else is refused. Empty: it decides."},
	{Name: "max_in_flight", Type: sdk.Number, Default: 64, Description: "Most requests that it has at a time."},
	{Name: "max_message", Type: sdk.Number, Default: 8 << 20, Description: "Most bytes of a message from it."},
	{Name: "cancel", Type: sdk.Bool, Default: false, Description: "Tell it when nobody waits for a request any more."},
	{Name: "stop_grace", Type: sdk.String, Default: "2s", Description: "How long it may take to end after its input has, and after SIGTERM."},
	{Name: "stall", Type: sdk.String, Default: "10s", Description: "How long it may leave its input unread before it is ended and started anew."},
}}

type settings struct {
	Command     []string          `json:"command"`
	Directory   string            `json:"directory"`
	Env         map[string]string `json:"env"`
	Framing     string            `json:"framing"`
	Dialect     string            `json:"dialect"`
	Operations  []string          `json:"operations"`
	MaxInFlight int               `json:"max_in_flight"`
	MaxMessage  int               `json:"max_message"`
	Cancel      bool              `json:"cancel"`
	StopGrace   string            `json:"stop_grace"`
	Stall       string            `json:"stall"`

	stopGrace, stall time.Duration
}

const (
	maxInFlight = 4096
	maxMessage  = 15 << 20
)

// configure takes the configuration over.
func (p *peer) configure(_ context.Context, c *sdk.Config) error {
	s := settings{Framing: framingLines, Dialect: dialectSOP, MaxInFlight: 64, MaxMessage: 8 << 20, StopGrace: "2s", Stall: "10s"}
	if err := c.Decode(&s); err != nil {
		return err
	}
	var wrong []error
	problem := func(attribute, summary, detail string) {
		wrong = append(wrong, &sdk.ConfigError{Attribute: attribute, Summary: summary, Detail: detail})
	}
	if len(s.Command) == 0 || !filepath.IsAbs(s.Command[0]) {
		problem("command", "the program is not named by an absolute path", "Write it as [\"/opt/arp/bin/arp\", \"--stdio\"].")
	}
	if !slices.Contains([]string{framingLines, framingLength}, s.Framing) {
		problem("framing", fmt.Sprintf("there is no framing %q", s.Framing), "It is \"lines\" or \"content-length\".")
	}
	if !slices.Contains([]string{dialectSOP, dialectRPC}, s.Dialect) {
		problem("dialect", fmt.Sprintf("there is no dialect %q", s.Dialect), "It is \"sop\" or \"jsonrpc\".")
	}
	if s.MaxInFlight < 1 || s.MaxInFlight > maxInFlight {
		problem("max_in_flight", "it is out of range", fmt.Sprintf("Give a number from 1 to %d.", maxInFlight))
	}
	if s.MaxMessage < 1024 || s.MaxMessage > maxMessage {
		problem("max_message", "it is out of range", fmt.Sprintf("Give a number of bytes from 1024 to %d.", maxMessage))
	}
	var err error
	if s.stopGrace, err = time.ParseDuration(s.StopGrace); err != nil || s.stopGrace <= 0 || s.stopGrace > time.Minute {
		problem("stop_grace", "it is no duration up to a minute", "Write it as \"2s\".")
	}
	if s.stall, err = time.ParseDuration(s.Stall); err != nil || s.stall <= 0 || s.stall > time.Hour {
		problem("stall", "it is no duration up to an hour", "Write it as \"10s\".")
	}
	if s.Directory == "" {
		s.Directory = c.StateDir
	}
	p.set = s
	p.places = make(chan struct{}, max(s.MaxInFlight, 1))
	return errors.Join(wrong...)
}
