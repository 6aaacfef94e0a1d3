package audit

import "io"

// SetArchiveStep hears the steps of archiving.
func SetArchiveStep(f func(string)) { archiveStep = f }

// SetWrapFile stands between a segment and its file; nil undoes it.
func SetWrapFile(f func(io.Writer) io.Writer) {
	if f == nil {
		f = func(w io.Writer) io.Writer { return w }
	}
	wrapFile = f
}
