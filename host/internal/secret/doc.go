// Package secret makes, reads and checks the secrets that the host gives out:
// text that is random, carries a public accessor and a checksum, is kept only
// as a keyed hash, and shows nothing of itself however it is printed.
//
//	secret.go   the form of a secret
//	key.go      the host's key, and the hash that is kept
//	guard.go    sources that guess are slowed down
//
// It is a leaf. Features that give secrets out (token, agent) and their tests
// may import it.
package secret
