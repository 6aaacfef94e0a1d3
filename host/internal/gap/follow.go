package gap

import "time"

// Follow takes a gap to the state that the work on it has come to, by way of
// ticketed where there is no direct one, and returns the entries for the history.
// What is resolved or suppressed does not follow: only a scan resolves, and who
// tolerates a gap has said so. Neither does what is there already.
func Follow(g *Gap, to State, by, why string, at time.Time) ([]Change, error) {
	if g.State == StateResolved || g.State == StateSuppressed || g.State == to || to == StateResolved || to == StateSuppressed {
		return nil, nil
	}
	var changes []Change
	why = oneLine(why, maxText)
	if !CanGo(g.State, to) && CanGo(g.State, StateTicketed) && to != StateTicketed {
		c, err := g.move(StateTicketed, by, why, at)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
		if to == StateVerifying {
			if c, err = g.move(StateInProgress, by, why, at); err != nil {
				return nil, err
			}
			changes = append(changes, c)
		}
	}
	c, err := g.move(to, by, why, at)
	if err != nil {
		return nil, err
	}
	return append(changes, c), nil
}
