// Package integration makes a change set part of a workspace, as a whole or not
// at all, and takes it back. It is the only place where SOP changes a governed
// tree.
//
//	integrate.go  what is asked for, and the steps from it to done
//	plan.go       the journal's record of one integration
//	home.go       where records are, and the lock
//	tree.go       names beneath a root, and what is there
//	stage.go      new entries, made ready beside the tree
//	exchange.go   one entry in, and out again
//	undo.go       what was done, judged by what is there, and taken back
//	recover.go    what a crash has left; rollback; forgetting
//	reverse.go    the change set that takes another back, merged with later edits
//	git.go        dirty files; branch.go commits; file.go patch files
//
// DESIGN.md says why it is built so. It imports sandbox for change sets, merge,
// patchfile, and sdk for errors only. flow, startup and bench may import it; no other
// feature may.
package integration
