package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/s3"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/format"
	"github.com/kopia/kopia/repo/maintenance"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/tree"
	"github.com/sop-host/sop/sdk"
)

// userName is what the kopia client shows as the user of snapshots.
const userName = "sop"

// repository is a kopia repository. Any number of processes may use it at once.
// All of its methods are safe for concurrent use.
type repository struct {
	settings *settings
	store    blob.Storage
	removed  atomic.Int64 // blobs that were, through store
	dir      *directory   // nil: a bucket
	inode    tree.Inode   // of the directory
	// layout is what is wrong with the directory; nil: nothing.
	layout error
	// fresh is how old a change must be for the next to show.
	fresh time.Duration
	// heads are those of records that were read, by id: they never change.
	heads sync.Map // of *head

	mu  sync.Mutex // guards the following
	rep repo.DirectRepository
	// pieced is what the last salvage made, and piecedOf what of.
	pieced   *view
	piecedOf [sha256.Size]byte
}

// view is the repository as one call sees it.
type view struct {
	rep   repo.DirectRepository
	store blob.Storage
	seal  *sealer
	heads *sync.Map
	// damage is why the repository was pieced together from what is left of it,
	// for reading only; nil: it is whole as far as opening it tells.
	damage error
}

// openRepository opens the repository that the settings name, or makes one where
// there is nothing. A damaged one is opened: what is left can be read.
func openRepository(ctx context.Context, s *settings) (*repository, error) {
	r := &repository{settings: s, fresh: tree.Fresh}
	if err := r.openStore(ctx); err != nil {
		return nil, err
	}
	unlock, err := r.lock()
	if err != nil {
		return nil, ioError(ctx, "lock the plugin's directory", err)
	}
	defer unlock()
	empty, err := r.empty(ctx)
	if err != nil {
		return nil, ioError(ctx, "look at the repository", err)
	}
	if empty {
		return r, r.create(ctx)
	}
	_, err = r.view(ctx)
	return r, err
}

func (r *repository) openStore(ctx context.Context) (err error) {
	if o := r.settings.s3; o != nil {
		bucket, err := s3.New(ctx, &s3.Options{
			BucketName: o.Bucket, Prefix: o.Prefix, Endpoint: o.Endpoint, Region: o.Region, DoNotUseTLS: o.Insecure,
			AccessKeyID: o.AccessKey, SecretAccessKey: o.SecretKey, RootCA: o.ca,
		}, false)
		if err != nil {
			return ioError(ctx, "open the bucket", err)
		}
		r.store = counted{bucket, &r.removed}
		return nil
	}
	if err := r.makeDirectory(); err != nil {
		return ioError(ctx, "make the repository", err)
	}
	if r.dir, r.layout, err = openDirectory(r.settings.directory); err != nil {
		return ioError(ctx, "read the repository", err)
	}
	r.store = counted{r.dir, &r.removed}
	var st unix.Stat_t
	if err := unix.Stat(r.dir.dir, &st); err != nil {
		return ioError(ctx, "look at the repository", err)
	}
	r.inode = tree.Inode{Dev: st.Dev, Ino: st.Ino}
	return nil
}

// makeDirectory makes the directory, and refuses one that holds something else.
func (r *repository) makeDirectory() error {
	if err := os.MkdirAll(r.settings.directory, ownDirMode); err != nil {
		return err
	}
	entries, err := os.ReadDir(r.settings.directory)
	if err != nil {
		return err
	}
	foreign := ""
	for _, e := range entries {
		switch {
		case e.IsDir(), strings.HasSuffix(e.Name(), blobSuffix):
			return nil // it is looked at more closely later
		case e.Name() != shardsFile && !strings.Contains(e.Name(), tempInfix):
			foreign = e.Name()
		}
	}
	if foreign == "" {
		return nil
	}
	return sdk.Errorf(codes.FailedPrecondition, "NOT_A_REPOSITORY", "%s holds %q and is no repository", r.settings.directory, foreign).
		WithRemedy("name an empty directory, or one that does not exist")
}

// lock keeps two processes with the same state from making a repository at once.
func (r *repository) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(r.settings.stateDir, "open.lock"), os.O_RDWR|os.O_CREATE, ownFileMode)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(os.NewSyscallError("flock", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// empty says whether there is nothing but, at most, what was left when somebody
// was killed who made a repository. It lists everything: the library leaves a
// listing of a bucket that is broken off standing.
func (r *repository) empty(ctx context.Context) (bool, error) {
	found := false
	err := r.store.ListBlobs(ctx, "", func(m blob.Metadata) error {
		found = found || m.BlobID != format.KopiaBlobCfgBlobID
		return nil
	})
	return err == nil && !found, err
}

// create makes a repository. The blob with its format comes last and says that
// it is there.
func (r *repository) create(ctx context.Context) error {
	if err := r.store.DeleteBlob(ctx, format.KopiaBlobCfgBlobID); err != nil && !errors.Is(err, blob.ErrBlobNotFound) {
		return ioError(ctx, "make the repository", err)
	}
	if err := repo.Initialize(ctx, r.store, nil, r.settings.password); err != nil {
		return ioError(ctx, "make the repository", err)
	}
	rep, err := r.connect(ctx)
	if err != nil {
		return ioError(ctx, "open the new repository", err)
	}
	err = repo.DirectWriteSession(ctx, rep, repo.WriteSessionOptions{Purpose: "create"}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		params := maintenance.DefaultParams()
		params.Owner = rep.ClientOptions().UsernameAtHost()
		return maintenance.SetParams(ctx, w, &params)
	})
	return ioError(ctx, "set the new repository up", err)
}

// connect opens the repository, or looks again at what others have changed in it.
func (r *repository) connect(ctx context.Context) (repo.DirectRepository, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rep != nil {
		return r.rep, r.rep.Refresh(ctx)
	}
	if r.layout != nil {
		return nil, r.layout
	}
	rep, err := r.openOn(ctx, r.store, "")
	if err != nil {
		return nil, err
	}
	r.rep = rep
	return rep, nil
}

// openOn opens a repository on a storage. The library wants a configuration file:
// it holds no secret, and is the same for every process with this state.
func (r *repository) openOn(ctx context.Context, st blob.Storage, variant string) (repo.DirectRepository, error) {
	registerHandles()
	handle := r.settings.stateDir + variant
	handles.Store(handle, blob.Storage(kept{st}))
	info := handleInfo(handle)
	text, err := json.Marshal(repo.LocalConfig{
		Storage:       &info,
		Caching:       &content.CachingOptions{}, // none: what is read is what is stored
		ClientOptions: repo.ClientOptions{Hostname: r.settings.hostName, Username: userName, FormatBlobCacheDuration: format.DefaultRepositoryBlobCacheDuration},
	})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(r.settings.stateDir, "kopia"+variant+".config")
	if had, err := os.ReadFile(path); err != nil || !bytes.Equal(had, text) {
		if err := (&directory{}).write(path, func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
			return nil, err
		}
	}
	rep, err := repo.Open(context.WithoutCancel(ctx), path, r.settings.password, &repo.Options{
		DisableRepositoryLog: true,
		DoNotWaitForUpgrade:  true,
		OnFatalError:         func(error) {}, // the call fails with it; the library would end the process
	})
	if err != nil {
		return nil, err
	}
	direct, ok := rep.(repo.DirectRepository)
	if !ok {
		return nil, errors.Join(errors.New("the repository is behind a server"), rep.Close(ctx))
	}
	return direct, nil
}

// view opens the repository for one call.
func (r *repository) view(ctx context.Context) (*view, error) {
	if v := r.stillDamaged(ctx); v != nil {
		return v, nil
	}
	rep, err := r.connect(ctx)
	switch {
	case err == nil:
		return r.viewOf(rep, r.store)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	if e := sdk.FromError(ioError(ctx, "open the repository", err)); e.Reason != "REPOSITORY_IO" {
		return nil, e
	}
	v, salvageErr := r.salvage(ctx, err)
	switch {
	case salvageErr == nil:
		return v, nil
	case errors.Is(err, repo.ErrInvalidPassword):
		return nil, sdk.Errorf(codes.FailedPrecondition, "WRONG_PASSWORD", "the password does not open the repository").
			WithRemedy("put the password into the configuration with which the repository was made; without it nothing can be restored")
	}
	return nil, damagedRepository(errors.Join(err, salvageErr))
}

func (r *repository) viewOf(rep repo.DirectRepository, st blob.Storage) (*view, error) {
	seal, err := newSealer(rep)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return &view{rep: rep, store: st, seal: seal, heads: &r.heads}, nil
}

// writable opens the repository for a call that changes it.
func (r *repository) writable(ctx context.Context) (*view, error) {
	v, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	if v.damage != nil {
		return nil, damagedRepository(v.damage)
	}
	return v, nil
}

// durably runs change and makes what it wrote durable.
func (r *repository) durably(change func() error) error {
	if r.dir == nil {
		return change() // a bucket has it when it has answered
	}
	sync, done, err := r.dir.durable()
	if err != nil {
		return err
	}
	defer done()
	if err := change(); err != nil {
		return err
	}
	return sync()
}
