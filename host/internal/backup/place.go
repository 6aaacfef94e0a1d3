package backup

import (
	"path/filepath"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// checkPlace refuses a target within the host's own state, and one in a governed
// workspace unless that is what is wanted.
func (s *Service) checkPlace(target string, inPlace bool) error {
	if s.DataDir != "" && within(target, s.DataDir) {
		return sdk.Errorf(codes.FailedPrecondition, "BACKUP_INTO_STATE", "%s holds the host's own state", clip(target)).
			WithRemedy("restore to another directory; to put state back, stop the host first (docs/backup.md)").WithField("target", "")
	}
	if inPlace || s.Roots == nil {
		return nil
	}
	for name, root := range s.Roots() {
		if within(target, root) {
			return sdk.Errorf(codes.FailedPrecondition, "BACKUP_INTO_WORKSPACE", "%s lies in the governed workspace %s", clip(target), name).
				WithRemedy("restore to another directory, or say that it shall be changed in place").WithField("in_place", "")
		}
	}
	return nil
}

// within says whether a path is a directory or lies beneath it, wherever
// symbolic links lead.
func within(p, dir string) bool {
	p, dir = resolved(p), resolved(dir)
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// resolved follows symbolic links, as far as the path exists.
func resolved(p string) string {
	p = filepath.Clean(p)
	for rest := ""; ; {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			return filepath.Join(real, rest)
		}
		if p == "/" || p == "." {
			return filepath.Join(p, rest)
		}
		p, rest = filepath.Dir(p), filepath.Join(filepath.Base(p), rest)
	}
}
