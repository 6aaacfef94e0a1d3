package term

import (
	"io"
	"slices"
	"strings"
)

const (
	columnGap = "  "
	minFlex   = 16 // columns that the flexible column keeps
)

// Cell is one field of a table.
type Cell struct {
	Text  string
	Style Style
}

// Text is a plain cell.
func Text(s string) Cell { return Cell{Text: s} }

// Styled is a cell in a style.
func Styled(style Style, s string) Cell { return Cell{Text: s, Style: style} }

// Table collects rows and writes them aligned by display width. All text is
// made safe.
type Table struct {
	// Width is what a row may take, in columns; 0 means that nothing is cut.
	Width int
	// Flex is the column that gives way first where Width is too small.
	Flex int
	// Whole are columns that are cut last.
	Whole   []int
	Palette Palette

	rows [][]Cell
}

// NewTable returns a table with a header.
func NewTable(palette Palette, width, flex int, header ...string) *Table {
	t := &Table{Width: width, Flex: flex, Palette: palette}
	cells := make([]Cell, len(header))
	for i, h := range header {
		cells[i] = Styled(Bold, h)
	}
	t.rows = append(t.rows, cells)
	return t
}

// Row adds a row.
func (t *Table) Row(cells ...Cell) {
	for i := range cells {
		cells[i].Text = Safe(cells[i].Text)
	}
	t.rows = append(t.rows, cells)
}

// WriteTo writes the table.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	widths := t.widths()
	var b strings.Builder
	for _, row := range t.rows {
		t.writeRow(&b, row, widths)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (t *Table) widths() []int {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], Width(cell.Text))
		}
	}
	t.shrink(widths)
	return widths
}

// shrink takes from the flexible column first, then from the widest, and from
// the columns that should stay whole only when nothing else is left.
func (t *Table) shrink(widths []int) {
	if t.Width <= 0 {
		return
	}
	over := (len(widths)-1)*len(columnGap) - t.Width
	for _, w := range widths {
		over += w
	}
	if over > 0 && t.Flex < len(widths) {
		take := min(over, max(0, widths[t.Flex]-minFlex))
		widths[t.Flex] -= take
		over -= take
	}
	for ; over > 0; over-- {
		widest := t.widest(widths)
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// widest returns the column to take from, or -1 when none has any left.
func (t *Table) widest(widths []int) int {
	cut, whole := -1, -1
	for i, w := range widths {
		switch {
		case w <= 1:
		case slices.Contains(t.Whole, i):
			if whole < 0 || w > widths[whole] {
				whole = i
			}
		case cut < 0 || w > widths[cut]:
			cut = i
		}
	}
	if cut < 0 {
		return whole
	}
	return cut
}

func (t *Table) writeRow(b *strings.Builder, row []Cell, widths []int) {
	last := len(row) - 1
	for last >= 0 && row[last].Text == "" {
		last--
	}
	for i, cell := range row[:last+1] {
		text := Truncate(cell.Text, widths[i])
		b.WriteString(t.Palette.Paint(cell.Style, text))
		if i < last {
			b.WriteString(strings.Repeat(" ", widths[i]-Width(text)))
			b.WriteString(columnGap)
		}
	}
	b.WriteByte('\n')
}
