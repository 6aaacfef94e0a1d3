package main

import (
	"context"
	"errors"
	"io/fs"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/tree"
	"github.com/sop-host/sop/sdk"
)

// ioError is what went wrong with the repository as a whole. An [sdk.Error], and
// the end of the context, are passed on as they are.
func ioError(ctx context.Context, doing string, err error) error {
	var known *sdk.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case ctx.Err() != nil:
		return ctx.Err()
	case tree.NoSpace(err):
		return sdk.Errorf(codes.ResourceExhausted, "NO_SPACE", "%s: %w", doing, err).
			WithRemedy("free space on that disk or raise the quota; what retention gives up is free about a day after `prune`")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return sdk.Errorf(codes.FailedPrecondition, "REPOSITORY_NOT_WRITABLE", "%s: %w", doing, err).
			WithRemedy("let the user that the host runs as write there")
	case unreachable(err):
		return sdk.Errorf(codes.Unavailable, "REPOSITORY_UNREACHABLE", "%s: %w", doing, err).
			WithRemedy("check the network, and the endpoint in the configuration")
	}
	return sdk.Errorf(codes.Internal, "REPOSITORY_IO", "%s: %w", doing, err).WithRemedy("verify the repository; it names what is damaged")
}

// unreachable tells an error of the network.
func unreachable(err error) bool {
	var op *net.OpError
	var name *net.DNSError
	return errors.As(err, &op) || errors.As(err, &name)
}

// damagedRepository says that nothing can be written any more.
func damagedRepository(err error) error {
	return sdk.Errorf(codes.DataLoss, "REPOSITORY_DAMAGED", "the repository is damaged: %w", err).
		WithRemedy("verify names what is damaged; restore what you need, then name another directory or bucket: what is there is left as it is")
}

// notFound says that there is no such snapshot.
func notFound(id string) error {
	return sdk.Errorf(codes.NotFound, "SNAPSHOT_NOT_FOUND", "there is no snapshot %q", id)
}

// storeError is an error of the repository while a file was saved, which ends
// the save; others are failures of their paths.
type storeError struct{ error }

// Unwrap returns the cause.
func (e storeError) Unwrap() error { return e.error }

func stored(err error) error {
	if err == nil {
		return nil
	}
	return storeError{err}
}
