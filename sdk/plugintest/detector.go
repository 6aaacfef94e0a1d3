package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

// Result is what one scan reported.
type Result struct {
	Findings    []*pluginv1.Finding
	Covered     []string
	Diagnostics []*pluginv1.ScanDiagnostic
	Summary     *pluginv1.ScanSummary
}

// Detector serves d in the process of the test and returns a client of it. The
// test ends it.
func Detector(t testing.TB, d detector.Detector) pluginv1.DetectorClient {
	t.Helper()
	return serve(t, detector.Kind, d)
}

// Files lists the regular files beneath root as a manifest, sorted by path;
// .git is left out.
func Files(t testing.TB, root string) []*pluginv1.ScanFile {
	t.Helper()
	var files []*pluginv1.ScanFile
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		files = append(files, &pluginv1.ScanFile{
			Path: rel, Size: info.Size(), ModifiedUnixNano: info.ModTime().UnixNano(),
			Testdata: slices.Contains(strings.Split(rel, "/"), "testdata"),
		})
		return nil
	})
	if err != nil {
		t.Fatalf("list %s: %v", root, err)
	}
	slices.SortFunc(files, func(a, b *pluginv1.ScanFile) int { return strings.Compare(a.GetPath(), b.GetPath()) })
	return files
}

// Scan scans a whole tree once and returns what was reported, sorted by path,
// line and rule.
func Scan(t testing.TB, d detector.Detector, root string) *Result {
	t.Helper()
	start := &pluginv1.ScanStart{ScanId: "test", Workspace: "test", Root: root, Revision: "1", MaxFileSize: 4 << 20}
	result, err := Exchange(t.Context(), Detector(t, d), start, &pluginv1.ScanFiles{Changed: Files(t, root)})
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	return result
}

// Exchange runs one scan, of a whole tree or of a change to one.
func Exchange(ctx context.Context, client pluginv1.DetectorClient, start *pluginv1.ScanStart, files *pluginv1.ScanFiles) (*Result, error) {
	stream, err := client.Scan(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Start{Start: start}}); err != nil {
		return nil, err
	}
	if err := stream.Send(&pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Files{Files: files}}); err != nil {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	result := &Result{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		result.Findings = append(result.Findings, resp.GetFindings()...)
		result.Covered = append(result.Covered, resp.GetCovered()...)
		result.Diagnostics = append(result.Diagnostics, resp.GetDiagnostics()...)
		if resp.GetSummary() != nil {
			result.Summary = resp.GetSummary()
		}
	}
	if result.Summary == nil {
		return nil, errors.New("the scan ended without a summary")
	}
	slices.Sort(result.Covered)
	slices.SortFunc(result.Findings, func(a, b *pluginv1.Finding) int { return strings.Compare(key(a), key(b)) })
	return result, nil
}

func key(f *pluginv1.Finding) string {
	return fmt.Sprintf("%s\x00%08d\x00%s", f.GetLocation().GetPath(), f.GetLocation().GetLine(), f.GetRule())
}
