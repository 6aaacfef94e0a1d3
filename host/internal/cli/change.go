package cli

import (
	"github.com/spf13/cobra"
)

// change is what every command that changes something in a host can be told.
type change struct {
	key   string // of idempotency
	check bool
}

// addChange adds the flags.
func (c *change) addChange(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&c.check, "check", false, "change nothing, and only say whether it could be done")
	flags.BoolVar(&c.check, "validate-only", false, "as --check")
	flags.StringVar(&c.key, "idempotency-key", "", "a `word` of your own: with the same one a retry within 24 hours is answered as the first was, and done once")
	if err := flags.MarkHidden("validate-only"); err != nil {
		panic(err) // it was defined above
	}
}

// would says that what --check asked about could be done.
func (a *app) would(what string) error {
	if a.json() {
		return printJSON(a.Out, map[string]string{"check": "ok", "would": what})
	}
	a.note("%s\n", what)
	return nil
}
