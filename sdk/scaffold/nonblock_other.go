//go:build !unix

package scaffold

// nonBlocking is not needed where pipes are no files.
const nonBlocking = 0
