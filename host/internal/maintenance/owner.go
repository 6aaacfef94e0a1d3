package maintenance

import "strings"

// DefaultOwner owns what no pattern covers, where nobody else is named.
const DefaultOwner = "operator/operators"

// Owners say who owns which subsystem.
type Owners struct {
	Default string // empty: DefaultOwner
	Of      []Owner
}

// Owner owns what a pattern covers, in which * stands for any run of characters.
type Owner struct{ Pattern, Owner string }

// of returns the owner of a subsystem: that of the pattern that says most of its
// name.
func (o *Owners) of(subsystem string) string {
	owner, most := o.Default, -1
	for _, c := range o.Of {
		if said := len(strings.ReplaceAll(c.Pattern, "*", "")); covers(c.Pattern, subsystem) && said > most {
			owner, most = c.Owner, said
		}
	}
	if owner == "" {
		return DefaultOwner
	}
	return owner
}

// covers says whether a pattern covers a name.
func covers(pattern, name string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == name
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], after
	}
}
