package cli

import "github.com/spf13/cobra"

// addNarrowing adds the flags that every list has.
func addNarrowing(cmd *cobra.Command, filter, order *string, example, orderExample string) {
	cmd.Flags().StringVar(filter, "filter", "", "only what an `expression` lets pass, such as '"+example+"'")
	cmd.Flags().StringVar(order, "order-by", "", "in the order of these `fields`, such as '"+orderExample+"'")
}
