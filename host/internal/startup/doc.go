// Package startup is the composition root: it builds the host from its
// configuration, brings its parts up in order, takes configuration changes over
// while it runs, and stops everything in reverse order.
//
// Only startup sees the whole configuration; each part is given its own. It may
// be imported by cli and by nothing else, and may import everything below it.
package startup
