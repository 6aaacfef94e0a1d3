package report

import (
	"fmt"
	"io"

	"example.com/warehouse/stock"
)

// Write lists what runs short, one item a line.
func Write(w io.Writer, s *stock.Stock) error {
	// TODO: say since when each item has been short.
	for _, item := range s.Short() {
		if _, err := fmt.Fprintf(w, "%s: %d left, order at %d\n", item.Name, item.Count, item.Reorder); err != nil {
			return err
		}
	}
	return nil
}
