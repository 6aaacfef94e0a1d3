// Package scaffold makes deterministic patches from templates. A scaffold is a
// text/template file with a typed header that says which gaps it fixes; a place
// gathers facts about what the gap is about, and puts what the template makes
// of them where it belongs, leaving every other byte of a file alone.
//
// The same tree, gap and parameters give the same bytes: nothing here asks for
// the time, the environment, the network or chance. What a template may do is
// bounded in steps and in size, and it sees plain data without methods.
//
// It is for authors of scaffolds and of plugins that apply them, for the host's
// command line, and imports nothing of either.
package scaffold
