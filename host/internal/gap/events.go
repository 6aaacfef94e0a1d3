package gap

import "time"

// Publisher takes the package's events: [ScanStarted], [ScanFinished] and
// [Changed]. It must not block; *event.Bus is one.
type Publisher interface {
	Publish(event any)
}

// ScanStarted says that a scan has begun.
type ScanStarted struct {
	Scan      string
	Workspace string
	At        time.Time
}

// ScanFinished says that a scan has ended, one way or the other.
type ScanFinished struct {
	Result *ScanResult // not to be changed
	Err    error       // nil unless the scan as a whole failed
}

// Changed says, after the commit, which gaps have changed their state: one
// event for each transaction, however many gaps it touched. The gaps are shared
// by all subscribers and not to be changed.
type Changed struct {
	Workspace string
	By        string
	Opened    []*Gap
	Reopened  []*Gap
	Resolved  []*Gap
	Moved     []*Gap // any other transition
}

// add sorts g in by the transition that it made.
func (c *Changed) add(g *Gap, change Change) {
	switch {
	case change.From == "":
		c.Opened = append(c.Opened, g)
	case change.To == StateResolved:
		c.Resolved = append(c.Resolved, g)
	case change.To == StateOpen && (change.From == StateResolved || change.From == StateSuppressed):
		c.Reopened = append(c.Reopened, g)
	default:
		c.Moved = append(c.Moved, g)
	}
}

func (c *Changed) empty() bool {
	return len(c.Opened)+len(c.Reopened)+len(c.Resolved)+len(c.Moved) == 0
}

// nobody is the Publisher that is used in place of nil.
type nobody struct{}

func (nobody) Publish(any) {}
