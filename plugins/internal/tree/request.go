package tree

import (
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Absolute refuses a directory that is not one by itself.
func Absolute(field, dir string) error {
	if filepath.IsAbs(dir) {
		return nil
	}
	return sdk.Errorf(codes.InvalidArgument, "NOT_ABSOLUTE", "%q is no absolute path", dir).WithField(field, "")
}

// LocalPaths checks paths of a request; those of both forms count.
func LocalPaths(text []string, raw [][]byte) ([]Path, error) {
	var paths []Path
	for _, p := range text {
		paths = append(paths, Path(p))
	}
	for _, p := range raw {
		paths = append(paths, Path(p))
	}
	for _, p := range paths {
		if !p.Local() {
			return nil, sdk.Errorf(codes.InvalidArgument, "PATH_NOT_LOCAL", "%q is no plain path beneath the directory", string(p)).
				WithField("paths", "").WithRemedy("write it relative to the directory, without . and ..")
		}
	}
	return paths, nil
}

// PathFailures converts failures.
func PathFailures(all []Failure) (out []*pluginv1.PathFailure) {
	for _, f := range all {
		out = append(out, &pluginv1.PathFailure{Path: []byte(f.Path), Message: Path(f.Message).Text()})
	}
	return out
}

// Progress tells how far a call is, not more often than anybody looks. It is
// used by one goroutine at a time.
type Progress struct {
	// Tell reports; nil: nobody listens.
	Tell func(*pluginv1.BackupProgress) error

	last  time.Time
	files int64
	bytes int64
}

const progressEvery = 200 * time.Millisecond

// Add counts, and fails when nobody listens any more.
func (p *Progress) Add(files, bytes int64) error {
	p.files, p.bytes = p.files+files, p.bytes+bytes
	if p.Tell == nil || time.Since(p.last) < progressEvery {
		return nil
	}
	p.last = time.Now()
	return p.Tell(&pluginv1.BackupProgress{Files: p.files, Bytes: p.bytes})
}
