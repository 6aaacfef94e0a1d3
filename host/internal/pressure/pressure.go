// Package pressure tells when something runs short, and when there is enough of it
// again, without going back and forth at the threshold. It is a leaf, for startup.
package pressure

// Threshold is when there is too little left.
type Threshold struct {
	// Percent that is used from which on it is pressure; 0: never.
	Percent float64
	// Margin is by how much it must have fallen below before that is over.
	Margin float64
}

// Change is what a reading changes.
type Change int

// The changes.
const (
	None  Change = iota
	Rises        // there is pressure from now on
	Ends         // there is none any more; also the first time that is known
)

// lasting is how many readings in a row it takes: one alone may be a moment's.
const lasting = 2

type state int

const (
	unknown state = iota
	calm
	pressed
)

// Meter watches one thing. The zero value is ready for use; it is for one goroutine.
type Meter struct {
	state       state
	over, under int // readings in a row
}

// Note takes a reading of what is used, in percent.
func (m *Meter) Note(used float64, t Threshold) Change {
	switch over, under := t.Percent > 0 && used >= t.Percent, t.Percent <= 0 || used < t.Percent-t.Margin; {
	case over:
		m.over, m.under = m.over+1, 0
	case under:
		m.over, m.under = 0, m.under+1
	default: // between: as it was
		m.over, m.under = 0, 0
	}
	switch {
	case m.over >= lasting && m.state != pressed:
		m.state = pressed
		return Rises
	case m.under >= lasting && m.state != calm:
		m.state = calm
		return Ends
	}
	return None
}
