//go:build !front

package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/sdk"
)

// linkedVersion is set by the linker (-X); empty in a build without.
var linkedVersion string

// version says what this program is.
type version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Contract is the version of sop.plugin that plugins must speak.
	Contract int `json:"plugin_contract"`
}

func buildVersion() version {
	v := version{
		Version: linkedVersion, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Contract: sdk.ContractVersion,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.fill(info)
	}
	if v.Version == "" {
		v.Version = "dev"
	}
	return v
}

func (v *version) fill(info *debug.BuildInfo) {
	if v.Version == "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			v.Commit = setting.Value
		case "vcs.modified":
			v.Modified = setting.Value == "true"
		}
	}
}

type versionOptions struct{ *app }

func (a *app) newVersionCommand() *cobra.Command {
	o := versionOptions{a}
	return &cobra.Command{
		Use:     "version",
		Short:   "Say which version this is",
		Args:    noArguments,
		Example: "  sop version\n  sop version -o json",
		RunE:    func(*cobra.Command, []string) error { return o.run() },
	}
}

func (o versionOptions) run() error {
	if o.json() {
		return printJSON(o.Out, o.version)
	}
	v := o.version
	o.say("sop %s\n", v.Version)
	if v.Commit != "" {
		o.say("commit %s\n", v.Commit)
	}
	o.say("%s %s, plugin contract %d\n", v.Go, v.Platform, v.Contract)
	return nil
}
