package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/blob"
)

// overlay shows a damaged storage with some of it hidden and some replaced. What
// is written stays in memory: the storage beneath is left as it is.
type overlay struct {
	blob.Storage
	// hidden says which blobs of the storage are not shown.
	hidden func(blob.ID) bool

	mu     sync.Mutex // guards the following
	blobs  map[blob.ID][]byte
	gone   map[blob.ID]bool
	writes time.Time
}

func newOverlay(st blob.Storage, hidden func(blob.ID) bool) *overlay {
	return &overlay{Storage: st, hidden: hidden, blobs: make(map[blob.ID][]byte), gone: make(map[blob.ID]bool), writes: time.Now()}
}

// own is what the overlay says of a blob: its data, or that it shows none.
func (o *overlay) own(id blob.ID) (data []byte, has, none bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	data, has = o.blobs[id]
	return data, has, o.gone[id] || !has && o.hidden(id)
}

// GetBlob implements [blob.Reader].
func (o *overlay) GetBlob(ctx context.Context, id blob.ID, offset, length int64, output blob.OutputBuffer) error {
	data, has, none := o.own(id)
	switch {
	case none && !isIndex(id): // one that is hidden from the list can still be looked at
		return blob.ErrBlobNotFound
	case !has:
		return o.Storage.GetBlob(ctx, id, offset, length, output)
	}
	output.Reset()
	if length >= 0 {
		offset = min(max(offset, 0), int64(len(data)))
		data = data[offset:min(offset+length, int64(len(data)))]
	}
	if _, err := output.Write(data); err != nil {
		return err
	}
	return blob.EnsureLengthExactly(output.Length(), length)
}

// GetMetadata implements [blob.Reader].
func (o *overlay) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	data, has, none := o.own(id)
	switch {
	case none:
		return blob.Metadata{}, blob.ErrBlobNotFound
	case has:
		return blob.Metadata{BlobID: id, Length: int64(len(data)), Timestamp: o.writes}, nil
	}
	return o.Storage.GetMetadata(ctx, id)
}

// ListBlobs implements [blob.Lister].
func (o *overlay) ListBlobs(ctx context.Context, prefix blob.ID, callback func(blob.Metadata) error) error {
	o.mu.Lock()
	var own []blob.Metadata
	for _, id := range slices.Sorted(maps.Keys(o.blobs)) {
		if strings.HasPrefix(string(id), string(prefix)) {
			own = append(own, blob.Metadata{BlobID: id, Length: int64(len(o.blobs[id])), Timestamp: o.writes})
		}
	}
	o.mu.Unlock()
	for _, m := range own {
		if err := callback(m); err != nil {
			return err
		}
	}
	return o.Storage.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
		if _, has, none := o.own(m.BlobID); has || none {
			return nil
		}
		return callback(m)
	})
}

// PutBlob implements [blob.Storage].
func (o *overlay) PutBlob(_ context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	var buf bytes.Buffer
	if _, err := data.WriteTo(&buf); err != nil {
		return err
	}
	o.put(id, buf.Bytes())
	if opts.GetModTime != nil {
		*opts.GetModTime = o.writes
	}
	return nil
}

func (o *overlay) put(id blob.ID, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.blobs[id] = data
	delete(o.gone, id)
}

// DeleteBlob implements [blob.Storage].
func (o *overlay) DeleteBlob(_ context.Context, id blob.ID) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.blobs, id)
	o.gone[id] = true
	return nil
}

// Close implements [blob.Storage].
func (o *overlay) Close(context.Context) error { return nil }

// data is a [blob.Bytes].
type data []byte

// WriteTo implements [io.WriterTo].
func (d data) WriteTo(w io.Writer) (int64, error) { return bytes.NewReader(d).WriteTo(w) }

// Length implements [blob.Bytes].
func (d data) Length() int { return len(d) }

// Reader implements [blob.Bytes].
func (d data) Reader() io.ReadSeekCloser { return readCloser{bytes.NewReader(d)} }

type readCloser struct{ *bytes.Reader }

// Close implements [io.Closer].
func (readCloser) Close() error { return nil }

// buffer is a [blob.OutputBuffer].
type buffer struct{ bytes.Buffer }

// Length implements [blob.OutputBuffer].
func (b *buffer) Length() int { return b.Len() }

// readBlob reads a blob, or its first bytes if length is not negative.
func readBlob(ctx context.Context, st blob.Reader, id blob.ID, length int64) ([]byte, error) {
	var b buffer
	err := st.GetBlob(ctx, id, 0, length, &b)
	return b.Bytes(), err
}
