// Package python reads Python source for the bundled detectors: which modules,
// classes and functions there are, which have a docstring, how each body is
// shaped, how complex it is, and where the comments stand.
//
// [Outline] reads tokens and indentation. It knows what may stand beside what,
// so that it finds most errors, and agrees with CPython's ast module on every
// definition of its standard library, at a fiftieth of what a syntax tree costs.
// Where tokens do not tell, which is in one file of a thousand, it turns to
// [Parse], which builds the tree with a grammar.
//
// Only programs under plugins may import this package.
package python
