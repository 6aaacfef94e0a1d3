// Package filter is the small language in which callers narrow and order lists:
//
//	severity >= high AND rule = "docs.*" AND NOT (path : "host/" OR state = suppressed)
//
// A filter is parsed against the fields of one list, so that a name or a value
// that cannot be is an error with its column. What is parsed can be matched in
// memory here, and is compiled to SQL by store. docs/api.md describes the
// language for callers.
//
// It is a leaf: it imports nothing of ours, and any package of the host may
// import it.
package filter
