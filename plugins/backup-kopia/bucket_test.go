package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

const (
	bucketName   = "backups"
	bucketPrefix = "sop/"
)

// bucket is an S3 server in this process.
type bucket struct {
	*testing.T
	backend *s3mem.Backend
	server  *httptest.Server
}

func newBucket(t *testing.T) (b *bucket, config map[string]any) {
	t.Helper()
	b = &bucket{T: t, backend: s3mem.New()}
	b.server = httptest.NewServer(gofakes3.New(b.backend).Server())
	t.Cleanup(b.server.Close)
	if err := b.backend.CreateBucket(bucketName); err != nil {
		t.Fatal(err)
	}
	return b, map[string]any{"s3": map[string]any{
		"bucket": bucketName, "prefix": bucketPrefix, "endpoint": strings.TrimPrefix(b.server.URL, "http://"), "insecure": true,
		"access_key": "the key", "secret_key": "never to be shown",
	}}
}

// largest is the largest object of those whose names begin as given.
func (b *bucket) largest(prefix string) (name string) {
	b.Helper()
	list, err := b.backend.ListBucket(bucketName, nil, gofakes3.ListBucketPage{})
	if err != nil {
		b.Fatal(err)
	}
	size := int64(-1)
	for _, o := range list.Contents {
		if strings.HasPrefix(o.Key, bucketPrefix+prefix) && o.Size > size {
			name, size = o.Key, o.Size
		}
	}
	if name == "" {
		b.Fatalf("there is no object %s…", prefix)
	}
	return name
}

// spoil changes an object and returns how to undo that.
func (b *bucket) spoil(name string, change func([]byte) []byte) (undo func()) {
	b.Helper()
	o, err := b.backend.GetObject(bucketName, name, nil)
	if err != nil {
		b.Fatal(err)
	}
	text, err := io.ReadAll(o.Contents)
	if err != nil {
		b.Fatal(err)
	}
	put := func(text []byte) {
		b.Helper()
		if _, err := b.backend.PutObject(bucketName, name, map[string]string{}, bytes.NewReader(text), int64(len(text)), nil); err != nil {
			b.Fatal(err)
		}
	}
	put(change(bytes.Clone(text)))
	return func() { put(text) }
}

func flipped(text []byte) []byte { text[len(text)/2] ^= 4; return text }

func cut(text []byte) []byte { return text[:len(text)/2] }

// A bucket holds what a directory would: snapshots come back from it, on another
// machine too, damage is found and named, and deletion and retention work.
func TestBucket(t *testing.T) {
	b, config := newBucket(t)
	f := newFixture(t, config)
	f.write("dir/a", "a")
	large := make([]byte, 1<<20) // what cannot be compressed fills a pack
	if _, err := rand.Read(large); err != nil {
		t.Fatal(err)
	}
	f.write("large", string(large))
	first := f.save()
	f.write("dir/a", "changed")
	second := f.save()
	f.whole()

	elsewhere := newFixture(t, config)
	elsewhere.same(elsewhere.restored(first.GetId()), map[string]string{"dir/a": "a", "large": string(large)})
	elsewhere.same(elsewhere.restored(second.GetId()), map[string]string{"dir/a": "changed", "large": string(large)})
	if _, err := elsewhere.Delete(t.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{first.GetId()}}); err != nil {
		t.Fatal(err)
	}
	if resp, err := f.Prune(t.Context(), &pluginv1.PruneRequest{}, nil); err != nil || len(resp.GetDeletedIds()) > 0 {
		t.Errorf("pruned %v, %v", resp, err)
	}
	f.whole()
	for name, text := range contents(t, f.state) {
		if strings.Contains(text, "never to be shown") || strings.Contains(text, "the key") {
			t.Errorf("%s holds a key of the bucket", name)
		}
	}

	for kind, change := range map[string]func([]byte) []byte{"p": flipped, "q": cut, "xn": flipped, "_sop_": flipped, "kopia.repository": cut} {
		t.Run(kind, func(t *testing.T) { b.damaged(f.state, config, b.largest(kind), change) })
	}
}

// damaged spoils an object and looks that it is found and named.
func (b *bucket) damaged(state string, config map[string]any, name string, change func([]byte) []byte) {
	b.Helper()
	defer b.spoil(name, change)()
	impl, err := opener(config)(state)
	if err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	result, err := impl.Verify(b.Context(), &pluginv1.VerifyRequest{Data: true}, nil)
	if err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	named := slices.ContainsFunc(result.GetDamaged(), func(d *pluginv1.DamagedObject) bool {
		return d.GetName() == strings.TrimPrefix(name, bucketPrefix)
	})
	if result.GetIntact() || !named {
		b.Errorf("%s: verified as %v", name, result)
	}
}

// A key that is refused is said, without the secret.
func TestBucketRefusesTheKey(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
	}))
	t.Cleanup(server.Close)
	_, err := opener(map[string]any{"s3": map[string]any{
		"bucket": bucketName, "endpoint": strings.TrimPrefix(server.URL, "http://"), "insecure": true,
		"access_key": "the key", "secret_key": "never to be shown", "region": "here",
	}})(t.TempDir())
	var ce *sdk.ConfigError
	if !errors.As(err, &ce) || ce.Detail == "" || strings.Contains(ce.Error()+ce.Detail, "never to be shown") {
		t.Errorf("%v", err)
	}
}

// A network that is down is another error than a repository that is damaged.
func TestUnreachable(t *testing.T) {
	down := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	if got := sdk.FromError(ioError(t.Context(), "save", fmt.Errorf("put: %w", down))); got.Reason != "REPOSITORY_UNREACHABLE" || got.Remedy == "" {
		t.Errorf("%v", got)
	}
	disk := &os.PathError{Op: "open", Path: "/x", Err: os.ErrNotExist}
	if got := sdk.FromError(ioError(t.Context(), "save", disk)); got.Reason != "REPOSITORY_IO" || got.Remedy == "" {
		t.Errorf("%v", got)
	}
}
