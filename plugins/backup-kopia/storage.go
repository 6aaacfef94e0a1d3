package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/plugins/internal/tree"
)

// The layout of a directory, which is that of the kopia client.
const (
	blobSuffix  = ".f"
	tempInfix   = ".tmp."
	shardsFile  = ".shards"
	unsharded   = 20 // names that are not longer stand in the directory itself
	staleTemp   = 24 * time.Hour
	ownDirMode  = 0o700
	ownFileMode = 0o600
)

// shards is how the names of blobs are split into directories; the kopia client
// reads it from the file of that name.
type shards struct {
	Default   []int `json:"default"`
	Unsharded int   `json:"maxNonShardedLength"`
	Overrides []struct {
		Prefix string `json:"prefix"`
		Shards []int  `json:"shards"`
	} `json:"overrides,omitempty"`
}

// ownShards are those of the repositories that are made here.
var ownShards = shards{Default: []int{1, 3}, Unsharded: unsharded}

// path is where a blob is, relative to the directory.
func (s *shards) path(id blob.ID) string {
	name, parts := string(id), []string{}
	if len(name) > s.Unsharded {
		lengths := s.Default
		for _, o := range s.Overrides {
			if strings.HasPrefix(name, o.Prefix) {
				lengths = o.Shards
				break
			}
		}
		for _, n := range lengths {
			if n < 0 || len(name) <= n {
				break
			}
			parts, name = append(parts, name[:n]), name[n:]
		}
	}
	return filepath.Join(append(parts, name+blobSuffix)...)
}

// directory is a repository in a directory. What it does not find it says at
// once, where kopia's own storage tries again for minutes.
type directory struct {
	blob.DefaultProviderImplementation
	dir    string
	shards shards
	// places are where blobs are that stand elsewhere than they should; nil: none
	// does.
	places map[blob.ID]string
}

// openDirectory looks at a directory, which may be empty. The error of damage is
// for whoever writes: what is there can be read.
func openDirectory(dir string) (d *directory, damage error, err error) {
	d = &directory{dir: dir, shards: ownShards}
	found, err := d.walk()
	if err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, shardsFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(found) == 0:
		return d, nil, d.writeShards()
	case err != nil:
		damage = err
	default:
		var s shards
		if err := json.Unmarshal(text, &s); err != nil {
			damage = err
		} else {
			d.shards = s
		}
	}
	for id, m := range found {
		if m.path != d.shards.path(id) {
			damage = errors.Join(damage, errors.New("it does not tell where things are"))
			break
		}
	}
	if damage == nil {
		return d, nil, nil
	}
	d.places = make(map[blob.ID]string)
	for id, m := range found {
		d.places[id] = m.path
	}
	return d, fmt.Errorf("%s: %w", shardsFile, damage), nil
}

func (d *directory) writeShards() error {
	text, err := json.Marshal(d.shards)
	if err != nil {
		return err
	}
	return d.write(filepath.Join(d.dir, shardsFile), func(w io.Writer) error { _, err := w.Write(append(text, '\n')); return err })
}

// placed is a blob with its place, relative to the directory.
type placed struct {
	blob.Metadata
	path string
}

// walk finds all blobs. A blob that is in two places is taken from the first.
func (d *directory) walk() (map[blob.ID]placed, error) {
	found := make(map[blob.ID]placed)
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != d.dir {
			return nil // deleted meanwhile
		}
		if err != nil || e.IsDir() || !strings.HasSuffix(path, blobSuffix) {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, d.dir+"/")
		id := blob.ID(strings.ReplaceAll(strings.TrimSuffix(rel, blobSuffix), "/", ""))
		found[id] = placed{blob.Metadata{BlobID: id, Length: info.Size(), Timestamp: info.ModTime()}, rel}
		return nil
	})
	return found, err
}

// place is the absolute path of a blob.
func (d *directory) place(id blob.ID) string {
	if at, elsewhere := d.places[id]; elsewhere {
		return filepath.Join(d.dir, at)
	}
	return filepath.Join(d.dir, d.shards.path(id))
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return blob.ErrBlobNotFound
	}
	return err
}

// GetBlob implements [blob.Reader].
func (d *directory) GetBlob(ctx context.Context, id blob.ID, offset, length int64, output blob.OutputBuffer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	output.Reset()
	f, err := os.Open(d.place(id))
	if err != nil {
		return missing(err)
	}
	defer f.Close() //nolint:errcheck // it was read only
	var from io.Reader = f
	if length >= 0 {
		from = io.NewSectionReader(f, offset, length)
	}
	if _, err := io.Copy(struct{ io.Writer }{output}, from); err != nil {
		return err
	}
	return blob.EnsureLengthExactly(output.Length(), length)
}

// GetMetadata implements [blob.Reader].
func (d *directory) GetMetadata(_ context.Context, id blob.ID) (blob.Metadata, error) {
	info, err := os.Stat(d.place(id))
	if err != nil {
		return blob.Metadata{}, missing(err)
	}
	return blob.Metadata{BlobID: id, Length: info.Size(), Timestamp: info.ModTime()}, nil
}

// ListBlobs implements [blob.Lister].
func (d *directory) ListBlobs(ctx context.Context, prefix blob.ID, callback func(blob.Metadata) error) error {
	found, err := d.walk()
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if !strings.HasPrefix(string(id), string(prefix)) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := callback(found[id].Metadata); err != nil {
			return err
		}
	}
	return nil
}

// PutBlob implements [blob.Storage]: after a crash the blob is whole or not there.
func (d *directory) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if opts.HasRetentionOptions() || opts.DoNotRecreate {
		return blob.ErrUnsupportedPutBlobOption
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	path := d.place(id)
	if err := d.write(path, func(w io.Writer) error { _, err := data.WriteTo(w); return err }); err != nil {
		return err
	}
	if t := opts.SetModTime; !t.IsZero() {
		if err := os.Chtimes(path, t, t); err != nil {
			return err
		}
	}
	if opts.GetModTime != nil {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		*opts.GetModTime = info.ModTime()
	}
	return nil
}

// write makes a file whose content is durable before it has its name.
func (d *directory) write(path string, fill func(io.Writer) error) error {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	temp := path + tempInfix + hex.EncodeToString(random)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, ownFileMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), ownDirMode); err != nil {
			return err
		}
		f, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, ownFileMode)
	}
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// DeleteBlob implements [blob.Storage].
func (d *directory) DeleteBlob(_ context.Context, id blob.ID) error {
	if err := os.Remove(d.place(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// GetCapacity implements [blob.Volume].
func (d *directory) GetCapacity(context.Context) (blob.Capacity, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return blob.Capacity{}, os.NewSyscallError("statfs", err)
	}
	return blob.Capacity{SizeB: st.Blocks * uint64(st.Bsize), FreeB: st.Bavail * uint64(st.Bsize)}, nil
}

// ConnectionInfo implements [blob.Reader].
func (d *directory) ConnectionInfo() blob.ConnectionInfo { return handleInfo("") }

// DisplayName implements [blob.Reader].
func (d *directory) DisplayName() string { return d.dir }

// forgetCached drops a blob from the memory of the machine, so that the disk is
// read. What is not yet written cannot be dropped: then memory is the truth.
func (d *directory) forgetCached(id blob.ID) {
	f, err := os.Open(d.place(id))
	if err != nil {
		return // whoever reads it says so
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	_ = f.Close()
}

// sweep removes files that a process has left which was killed while it wrote.
func (d *directory) sweep(now time.Time) error {
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return err
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(e.Name(), tempInfix) {
			return ignoreMissing(err)
		}
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) < staleTemp {
			return ignoreMissing(err)
		}
		return ignoreMissing(root.Remove(path))
	})
	return errors.Join(err, root.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// durable opens a directory so that [tree.SyncFS] reports what fails from now on.
func (d *directory) durable() (sync func() error, done func(), err error) {
	f, err := os.Open(d.dir)
	if err != nil {
		return nil, nil, err
	}
	return func() error { return tree.SyncFS(f) }, func() { _ = f.Close() }, nil
}

// handleOptions name a storage of this process: what the kopia library writes to
// its configuration file holds no secret.
type handleOptions struct {
	Handle string `json:"handle"`
}

// storageType is what the configuration file calls a storage of this process.
const storageType = "sop"

var (
	handles         sync.Map // of blob.Storage, by handle
	registerHandles = sync.OnceFunc(func() {
		blob.AddSupportedStorage(storageType, handleOptions{}, func(_ context.Context, o *handleOptions, _ bool) (blob.Storage, error) {
			st, known := handles.Load(o.Handle)
			if !known {
				return nil, errors.New("that storage is of another process")
			}
			return st.(blob.Storage), nil //nolint:forcetypeassert // nothing else is put there
		})
	})
)

func handleInfo(handle string) blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: storageType, Config: &handleOptions{handle}}
}

// counted counts what is removed from a storage.
type counted struct {
	blob.Storage
	removed *atomic.Int64
}

// DeleteBlob implements [blob.Storage].
func (c counted) DeleteBlob(ctx context.Context, id blob.ID) error {
	err := c.Storage.DeleteBlob(ctx, id)
	if err == nil {
		c.removed.Add(1)
	}
	return err
}

// kept is a storage that outlives the repositories that are opened on it.
type kept struct{ blob.Storage }

// Close implements [blob.Storage].
func (kept) Close(context.Context) error { return nil }
