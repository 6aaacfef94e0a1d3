package term

// Style is how text is set off: the parameters of an SGR sequence, or empty for
// plain text.
type Style string

// The styles.
const (
	Plain    Style = ""
	Bold     Style = "1"
	Faint    Style = "2"
	Red      Style = "31"
	Green    Style = "32"
	Yellow   Style = "33"
	Cyan     Style = "36"
	BoldRed  Style = "1;31"
	BoldCyan Style = "1;36"
)

// Palette applies styles, or leaves text as it is when it is false.
type Palette bool

// Paint returns s in the style.
func (p Palette) Paint(style Style, s string) string {
	if !p || style == Plain || s == "" {
		return s
	}
	return "\x1b[" + string(style) + "m" + s + "\x1b[0m"
}
