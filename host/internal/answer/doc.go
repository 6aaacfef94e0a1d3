// Package answer remembers what callers were answered, so that a call that is
// repeated with its idempotency key is done once and answered twice.
//
// A key is reserved on disk before the call is let through, and the answer is
// added after it. A host that dies in between leaves a reservation without an
// answer: whether the call took effect is then not known, and a repetition is
// told so instead of being done a second time, unless doing it again does no
// harm. So nothing is ever done twice, and never is silence taken for failure.
//
// Answers may hold secrets, which are shown once: an agent that lost the
// connection must get its token all the same, and whoever reads the database
// must not. Every answer is therefore encrypted with a key that is derived from
// the host's key and from the idempotency key, which is not stored: it takes
// both to read one.
//
// It may be imported by api, store and startup.
package answer
