// Package term lays out text for people: it makes untrusted text safe to show,
// measures and cuts by display width, colours, and aligns tables.
//
// It is a leaf: it imports nothing of SOP. It may be imported by cli.
package term
