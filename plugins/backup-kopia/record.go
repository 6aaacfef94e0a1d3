package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"

	"github.com/sop-host/sop/plugins/internal/tree"
)

// A record is a blob beside those of kopia that says all of one snapshot, with
// what kopia has no place for. It is the first to be read; when it is lost, the
// directories that kopia keeps say the same.
const (
	recordPrefix = "_sop_"
	recordMagic  = "sop-backup-kopia 1\n"
	// maxHead bounds what is read to tell the head of a record, in bytes.
	maxHead = 1 << 20
	// maxPart bounds the lengths in a record.
	maxPart = 1 << 40
)

func recordBlob(id string) blob.ID { return blob.ID(recordPrefix + id) }

// recordIDs are the ids of the snapshots that have a record, oldest first.
func recordIDs(ctx context.Context, st blob.Lister) (ids []string, err error) {
	err = st.ListBlobs(ctx, recordPrefix, func(m blob.Metadata) error {
		if id := strings.TrimPrefix(string(m.BlobID), recordPrefix); seqOf(id) != 0 {
			ids = append(ids, id)
		}
		return nil
	})
	slices.Sort(ids)
	return ids, err
}

// newID names a snapshot with a number, so that names sort as they were made.
func newID(seq uint64) string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails
	return fmt.Sprintf("%012d-%s", seq, hex.EncodeToString(b))
}

// seqOf is the number in an id; 0 if it is none.
func seqOf(id string) uint64 {
	digits, random, ok := strings.Cut(id, "-")
	if !ok || len(digits) != 12 || len(random) != 8 || strings.Trim(random, "0123456789abcdef") != "" {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0
	}
	return n
}

// description is what does not change of a snapshot. The directory that is its
// root holds it too, so that the object id of that covers it.
type description struct {
	ID        string            `json:"id"`
	CreatedAt time.Time         `json:"created_at"`
	Root      tree.Path         `json:"root"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Paths is what was asked for; none: everything.
	Paths []tree.Path `json:"paths,omitempty"`
	// Excluded is what was left out.
	Excluded []tree.Path    `json:"excluded,omitempty"`
	Failures []tree.Failure `json:"failures,omitempty"`
	// Files and Bytes count regular files.
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
	// HashedAt is when all files were read last, also those that seemed unchanged.
	HashedAt time.Time `json:"hashed_at"`
}

// head is the part of a record that a list needs.
type head struct {
	description
	// RootObject is the directory of kopia.
	RootObject string `json:"root_object"`
	// Stored is how many bytes the snapshot added to the repository.
	Stored int64 `json:"stored"`
}

// sum proves the snapshot: it covers the description and, by the name of the
// root's object, everything in it.
func (h *head) sum() ([]byte, error) {
	text, err := json.Marshal(h.description)
	sum := sha256.Sum256(append(append(text, '\n'), h.RootObject...))
	return sum[:], err
}

// line is an entry in the body of a record.
type line struct {
	*tree.Entry
	Object  string     `json:"object,omitempty"`
	Changed tree.Stamp `json:"changed,omitzero"`
	Inode   *[2]uint64 `json:"inode,omitempty"`
}

func lineOf(e *tree.Entry) line {
	l := line{Entry: e, Object: e.Object, Changed: e.Changed}
	if e.Changed != (tree.Stamp{}) {
		l.Inode = &[2]uint64{e.Inode.Dev, e.Inode.Ino}
	}
	return l
}

func (l line) entry() (*tree.Entry, error) {
	if l.Entry == nil {
		return nil, errors.New("a line says nothing")
	}
	l.Entry.Object, l.Entry.Changed = l.Object, l.Changed
	if l.Inode != nil {
		l.Entry.Inode = tree.Inode{Dev: l.Inode[0], Ino: l.Inode[1]}
	}
	return l.Entry, l.Check()
}

// record is all that is known of a snapshot.
type record struct {
	head
	entries []*tree.Entry
}

// sealer encrypts records with a key that the repository gives.
type sealer struct{ aead cipher.AEAD }

func newSealer(rep repo.DirectRepository) (*sealer, error) {
	key, err := rep.DeriveKey("sop snapshot record", 32)
	if err != nil {
		return nil, err
	}
	c, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(c)
	return &sealer{aead}, err
}

// parts is a record in pieces: copies of the format blobs in the clear, which
// are encrypted by themselves, and the sealed head and body.
type parts struct {
	format     formatCopy
	head, body []byte
	// clear is everything before the head; it is authenticated with it.
	clear []byte
}

func appendPart(out, part []byte) []byte {
	return append(binary.AppendUvarint(out, uint64(len(part))), part...)
}

func takePart(in []byte) (part, rest []byte, err error) {
	n, used := binary.Uvarint(in)
	if used <= 0 || n > maxPart || n > uint64(len(in)-used) {
		return nil, nil, errors.New("it is cut off")
	}
	return in[used:][:n], in[used:][n:], nil
}

// parseRecord takes a record apart without opening it.
func parseRecord(raw []byte) (*parts, error) {
	rest, ok := bytes.CutPrefix(raw, []byte(recordMagic))
	if !ok {
		return nil, errors.New("it is no record")
	}
	p := &parts{}
	var err error
	if p.format.repository, rest, err = takePart(rest); err != nil {
		return nil, err
	}
	if p.format.config, rest, err = takePart(rest); err != nil {
		return nil, err
	}
	if len(p.format.config) == 0 {
		p.format.config = nil
	}
	p.clear = raw[:len(raw)-len(rest)]
	if p.head, rest, err = takePart(rest); err != nil {
		return nil, err
	}
	p.body = rest
	return p, nil
}

// encode makes the blob of a record whose body is packed.
func (s *sealer) encode(m *record, body []byte, f formatCopy) ([]byte, error) {
	header, err := json.Marshal(m.head)
	if err != nil {
		return nil, err
	}
	out := appendPart(appendPart([]byte(recordMagic), f.repository), f.config)
	clearPart := slices.Clone(out)
	out = appendPart(out, s.aead.Seal(nil, nil, header, sealedFor(m.ID, "head", clearPart))) //nolint:gosec // G407: the nonce is random, and the cipher's own
	return s.aead.Seal(out, nil, body, sealedFor(m.ID, "body", nil)), nil                    //nolint:gosec // as above
}

// packedLines are the entries of a record as its body has them, or why not.
type packedLines struct {
	packed []byte
	err    error
}

func packLines(entries []*tree.Entry) packedLines {
	var body bytes.Buffer
	z, err := zstd.NewWriter(&body, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return packedLines{err: err}
	}
	enc := json.NewEncoder(z)
	enc.SetEscapeHTML(false)
	for _, e := range entries {
		if err := enc.Encode(lineOf(e)); err != nil {
			return packedLines{err: err}
		}
	}
	err = z.Close()
	return packedLines{body.Bytes(), err}
}

// sealedFor binds a part to its snapshot and place.
func sealedFor(id, part string, clearPart []byte) []byte {
	sum := sha256.Sum256(clearPart)
	return append([]byte(id+" "+part+" "), sum[:]...)
}

// openHead reads the head of a record.
func (s *sealer) openHead(id string, p *parts) (*head, error) {
	text, err := s.aead.Open(nil, nil, p.head, sealedFor(id, "head", p.clear))
	if err != nil {
		return nil, errors.New("its head is not what was written")
	}
	h := &head{}
	if err := json.Unmarshal(text, h); err != nil {
		return nil, fmt.Errorf("its head: %w", err)
	}
	if h.ID != id {
		return nil, errors.New("it is that of another snapshot")
	}
	return h, nil
}

// decode reads a record.
func (s *sealer) decode(id string, raw []byte) (*record, error) {
	p, err := parseRecord(raw)
	if err != nil {
		return nil, err
	}
	h, err := s.openHead(id, p)
	if err != nil {
		return nil, err
	}
	packed, err := s.aead.Open(nil, nil, p.body, sealedFor(id, "body", nil))
	if err != nil {
		return nil, errors.New("its body is not what was written")
	}
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	m := &record{head: *h}
	for dec := json.NewDecoder(z); ; {
		var l line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return m, tree.CheckEntries(m.entries)
		}
		if err != nil {
			return nil, err
		}
		e, err := l.entry()
		if err != nil {
			return nil, err
		}
		m.entries = append(m.entries, e)
	}
}

// readHead reads no more of a record than its head, if that is not very long.
func (v *view) readHead(ctx context.Context, id string) (*head, error) {
	if h, known := v.heads.Load(id); known {
		return h.(*head), nil //nolint:forcetypeassert // nothing else is put there
	}
	meta, err := v.store.GetMetadata(ctx, recordBlob(id))
	if err != nil {
		return nil, err
	}
	raw, err := readBlob(ctx, v.store, recordBlob(id), min(meta.Length, maxHead))
	if err != nil {
		return nil, err
	}
	p, err := parseRecord(raw)
	if err != nil && meta.Length > maxHead {
		if raw, err = readBlob(ctx, v.store, recordBlob(id), -1); err == nil {
			p, err = parseRecord(raw)
		}
	}
	if err != nil {
		return nil, err
	}
	h, err := v.seal.openHead(id, p)
	if err != nil {
		return nil, err
	}
	v.heads.Store(id, h)
	return h, nil
}

// readRecord reads a record.
func (v *view) readRecord(ctx context.Context, id string) (*record, error) {
	raw, err := readBlob(ctx, v.store, recordBlob(id), -1)
	if err != nil {
		return nil, err
	}
	return v.seal.decode(id, raw)
}
