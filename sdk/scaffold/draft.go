package scaffold

import "slices"

// Draft is a tree with changes made to it in memory, one after the other.
type Draft struct{ patched }

// NewDraft returns a draft without changes.
func NewDraft(t Tree) *Draft { return &Draft{*newPatched(t, nil)} }

// Add makes changes that were made from the draft as it is.
func (d *Draft) Add(changes []Change) {
	for _, c := range changes {
		i := slices.IndexFunc(d.changes, func(have Change) bool { return have.Path == c.Path })
		if i >= 0 {
			d.changes[i].Content = c.Content
			continue
		}
		d.patched = *newPatched(d.Tree, append(d.changes, c))
	}
}

// Changes returns what differs from the tree, one change for each file, in the
// order in which they were first changed. Do not modify it.
func (d *Draft) Changes() []Change { return d.changes }
