package backup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Progress says how far a call is.
type Progress struct {
	Files int64
	Bytes int64
}

// granted calls fn with the secret of a token for a call to a plugin.
func (s *Service) granted(ctx context.Context, plugin, workspace, what string, fn func(secret string) error) error {
	if s.Grant == nil {
		return fn("")
	}
	secret, end, err := s.Grant(ctx, plugin, workspace, what)
	if err != nil {
		return fmt.Errorf("get a token for the backup plugin: %w", err)
	}
	defer end()
	return fn(secret)
}

// response is what the streams of a plugin send.
type response interface {
	GetProgress() *pluginv1.BackupProgress
}

// follow reads a stream to its end and returns the result that it carried.
func follow[R any, T any](stream grpc.ServerStreamingClient[R], err error, get func(*R) *T, tell func(Progress)) (*T, error) {
	if err != nil {
		return nil, err
	}
	var result *T
	for {
		resp, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && result == nil:
			return nil, sdk.Errorf(codes.DataLoss, "BACKUP_CUT_OFF", "the plugin ended the call without a result").
				WithRemedy("report this to the author of the plugin")
		case errors.Is(err, io.EOF):
			return result, nil
		case err != nil:
			return nil, err
		}
		if r := get(resp); r != nil {
			result = r
		}
		if r, ok := any(resp).(response); ok && tell != nil && r.GetProgress() != nil {
			tell(Progress{Files: r.GetProgress().GetFiles(), Bytes: r.GetProgress().GetBytes()})
		}
	}
}

// failuresOf converts at most maxFailures.
func failuresOf(all []*pluginv1.PathFailure) (out []PathFailure) {
	for _, f := range all[:min(len(all), maxFailures)] {
		out = append(out, PathFailure{Path: string(f.GetPath()), Message: clip(f.GetMessage())})
	}
	return out
}

// rawPaths are paths for the wire.
func rawPaths(paths []string) [][]byte {
	out := make([][]byte, len(paths))
	for i, p := range paths {
		out[i] = []byte(p)
	}
	return out
}

// described asks the plugin for its description of a snapshot; nil: it has none.
func (s *Service) described(ctx context.Context, client pluginv1.BackupClient, secret string, snap *Snapshot) (*pluginv1.Snapshot, error) {
	req := &pluginv1.ListRequest{Token: secret, SnapshotIds: []string{snap.Ref}}
	for {
		resp, err := client.List(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, d := range resp.GetSnapshots() {
			if d.GetId() == snap.Ref {
				return d, nil
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return nil, nil
		}
	}
}
