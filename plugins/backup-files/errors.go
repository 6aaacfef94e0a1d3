package main

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/tree"
	"github.com/sop-host/sop/sdk"
)

// ioError is what went wrong with the repository as a whole. An [sdk.Error] is
// passed on as it is.
func ioError(doing string, err error) error {
	var known *sdk.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case tree.NoSpace(err):
		return sdk.Errorf(codes.ResourceExhausted, "NO_SPACE", "%s: %w", doing, err).
			WithRemedy("free space on that disk or raise the quota; `prune` frees what retention no longer keeps")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return sdk.Errorf(codes.FailedPrecondition, "REPOSITORY_NOT_WRITABLE", "%s: %w", doing, err).
			WithRemedy("let the user that the host runs as write there")
	}
	return sdk.Errorf(codes.Internal, "REPOSITORY_IO", "%s: %w", doing, err).WithRemedy("check the disk of the repository")
}

// notFound says that there is no such snapshot.
func notFound(id string) error {
	return sdk.Errorf(codes.NotFound, "SNAPSHOT_NOT_FOUND", "there is no snapshot %q", id)
}

// damaged is the error of something in the repository that is not as it was
// written.
type damaged struct {
	name string // relative to the repository
	why  string
}

// Error implements [error].
func (d *damaged) Error() string { return fmt.Sprintf("%s is damaged: %s", d.name, d.why) }

func damagedf(name, format string, args ...any) error {
	return &damaged{name, fmt.Sprintf(format, args...)}
}
