//go:build !front

package cli

import (
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/docs"
)

type apiOptions struct{ *app }

func (a *app) newAPICommand() *cobra.Command {
	return a.newGroup("api", "What the host's API says of itself",
		"What the host's API says of itself. No host needs to run: it is the API of this program.",
		a.newAPIOpenAPICommand())
}

func (a *app) newAPIOpenAPICommand() *cobra.Command {
	o := apiOptions{a}
	return &cobra.Command{
		Use:   "openapi",
		Short: "Print the OpenAPI document",
		Long: `Print the OpenAPI 3.1 document of the API, in JSON: every method with its permission, what it takes and
answers, and how errors look. A running host serves the same at /openapi.json.`,
		Example: "  sop api openapi > sop.openapi.json",
		Args:    noArguments,
		RunE:    func(*cobra.Command, []string) error { return o.run() },
	}
}

func (o apiOptions) run() error {
	_, err := o.Out.Write(docs.OpenAPI)
	return err
}
