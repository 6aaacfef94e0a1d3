// Package archtest holds the import table of the repository, as a test: which
// package may import which of ours, and why. ARCHITECTURE.md shows the same as
// a picture. It is imported by nobody.
package archtest
