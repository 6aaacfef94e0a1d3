// Package audit is the record of who did what, with what outcome: append-only,
// hash-chained, and the leaves of a Merkle tree whose root the host signs.
//
//	record.go      what a record is, its bounds and how text is made safe
//	encode.go      the canonical bytes of a record, and their hash
//	tree.go        the head of the log: its size, last hash and tree
//	checkpoint.go  a signed head
//	key.go         the host's key
//	verify.go      finds any edit, removal, reorder or truncation
//	export.go      JSON Lines and CEF; parse.go reads the former
//	store.go       what the package needs of a database
//	log.go         the log of a running host
//	queue.go       records of what must not wait
//	digest.go      hashes rows as a database keeps them
//	segment.go     the file of an archived segment; archive.go moves them there
//	trail.go       the whole log, archives and store, and its verification
//	sink.go        how carrying it away is going; package ship does that
//
// What is proved and what is not: without a checkpoint the chain shows every
// change but a cut tail and a rewrite from some record to the end; with one,
// those up to it as well. A checkpoint that was taken away from the host is the
// one that its owner cannot rewrite.
//
// The package imports nothing of ours but sdk, for errors. gap's store, nexus,
// api and startup may import it.
package audit
