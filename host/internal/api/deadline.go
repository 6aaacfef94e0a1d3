package api

import (
	"errors"
	"io"
	"net/http"
	"time"
)

const (
	// bodyTimeout is how long a caller may take to send a request.
	bodyTimeout = 30 * time.Second
	// writeTimeout is how long a caller may take to make room for what is
	// written next.
	writeTimeout = 30 * time.Second
)

// patience cuts off callers that send too slowly, and those that do not read
// what they are sent. Calls may take, and streams be silent, for as long as they
// like: over HTTP/2 a deadline that passes ends the stream even where nothing is
// being written, so there is one only while something is.
type patience struct {
	next        http.Handler
	body, write time.Duration
}

// ServeHTTP implements [http.Handler].
func (p *patience) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	call := &struct { // in one piece
		out  patientWriter
		body patientBody
	}{out: patientWriter{ResponseWriter: w, control: c, limit: p.write}}
	if r.Body != nil && r.Body != http.NoBody && c.SetReadDeadline(time.Now().Add(p.body)) == nil {
		call.body = patientBody{ReadCloser: r.Body, out: &call.out, http1: r.ProtoMajor == 1}
		r.Body = &call.body
	}
	defer call.out.arm() // for what is flushed at the end
	p.next.ServeHTTP(&call.out, r)
}

// patientBody lifts the deadline once all has been read: what reads from then
// on only looks whether the caller is still there.
type patientBody struct {
	io.ReadCloser
	out   *patientWriter // of the answer
	http1 bool
}

// Read implements [io.Reader].
func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		_ = b.out.control.SetReadDeadline(time.Time{}) // a connection that is gone needs none
	case err != nil && b.http1: // what would come next is the rest of the body
		b.out.Header().Set("Connection", "close")
	}
	return n, err
}

// patientWriter sets a deadline when something is written, and lifts it when that
// has been flushed, which is when a stream may fall silent. What is written and
// not flushed is followed by more, or by the end of the call.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	armed   time.Time // zero: there is no deadline
}

// arm sets the deadline, or moves it. To set one is not free: it is left alone
// while most of it is to come.
func (w *patientWriter) arm() {
	now := time.Now()
	if !w.armed.IsZero() && now.Sub(w.armed) < w.limit/10 {
		return
	}
	w.armed = now
	_ = w.control.SetWriteDeadline(now.Add(w.limit)) // a connection that is gone needs none
}

func (w *patientWriter) disarm() {
	if !w.armed.IsZero() {
		w.armed = time.Time{}
		_ = w.control.SetWriteDeadline(time.Time{}) // as above
	}
}

// Write implements [io.Writer].
func (w *patientWriter) Write(p []byte) (int, error) {
	w.arm()
	return w.ResponseWriter.Write(p)
}

// Flush implements [http.Flusher].
func (w *patientWriter) Flush() {
	w.arm()
	_ = w.control.Flush() // the next write says what is wrong
	w.disarm()
}

// Unwrap is for [http.ResponseController].
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
