package main

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

const rule = "hostile.bad"

type stream = grpc.BidiStreamingServer[pluginv1.ScanRequest, pluginv1.ScanResponse]

// server implements pluginv1.DetectorServer: well, it reports every file named
// *.bad whose content is not empty.
type server struct {
	pluginv1.UnimplementedDetectorServer
}

// ListRules implements pluginv1.DetectorServer.
func (server) ListRules(context.Context, *pluginv1.ListRulesRequest) (*pluginv1.ListRulesResponse, error) {
	select {
	case serving <- struct{}{}:
	default:
	}
	return &pluginv1.ListRulesResponse{Rules: []*pluginv1.Rule{{
		Id: rule, Version: "1", Summary: "A file is bad.",
		Type: pluginv1.GapType_GAP_TYPE_CODE_QUALITY, DefaultSeverity: pluginv1.Severity_SEVERITY_HIGH,
	}}}, nil
}

// Scan implements pluginv1.DetectorServer.
func (server) Scan(s stream) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start.GetBaseRevision() != "" {
		return sdk.Errorf(codes.FailedPrecondition, "MANIFEST_UNKNOWN", "nothing is held")
	}
	mode, err := os.ReadFile(filepath.Join(start.GetRoot(), "hostile.mode"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if what, calls := strings.CutPrefix(strings.TrimSpace(string(mode)), "call:"); calls {
		err = callBack(s, start, what)
	} else if strings.TrimSpace(string(mode)) == "escape" {
		err = escape(s, start.GetRoot())
	} else {
		err = misbehave(s, strings.TrimSpace(string(mode)))
	}
	if err != nil {
		return err
	}
	return examine(s, start.GetRoot())
}

// examine is the scan as it should be.
func examine(s stream, root string) error {
	out := &pluginv1.ScanResponse{Summary: &pluginv1.ScanSummary{}}
	for {
		msg, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.Send(out)
		}
		if err != nil {
			return err
		}
		for _, f := range msg.GetFiles().GetChanged() {
			if path.Ext(f.GetPath()) != ".bad" {
				continue
			}
			content, err := os.ReadFile(filepath.Join(root, f.GetPath()))
			if err != nil {
				return err
			}
			if len(content) > 0 {
				out.Findings = append(out.Findings, finding(f.GetPath()))
			}
			out.Covered = append(out.Covered, f.GetPath())
			out.Summary.FilesExamined++
		}
	}
}

func finding(path string) *pluginv1.Finding {
	return &pluginv1.Finding{
		Rule: rule, RuleVersion: "1", Type: pluginv1.GapType_GAP_TYPE_CODE_QUALITY, Severity: pluginv1.Severity_SEVERITY_HIGH,
		Confidence: pluginv1.Confidence_CONFIDENCE_HIGH, Location: &pluginv1.Location{Path: path, Line: 1, EndLine: 1},
		Message: "The file is bad.", Remedy: "Empty it.", Snippet: path + "\n",
	}
}

// misbehave does what the workspace asks for, and returns when the scan is to
// go on as it should.
func misbehave(s stream, mode string) error {
	switch mode {
	case "panic":
		panic("as it was told")
	case "exit":
		os.Exit(7)
	case "hang": // not even when cancelled
		awaitForever()
	case "wait":
		<-s.Context().Done()
		return s.Context().Err()
	case "huge":
		return s.SendMsg(huge(math.MaxInt32)) // more, gRPC does not send
	case "endless":
		batch := &pluginv1.ScanResponse{}
		for range 1000 {
			batch.Findings = append(batch.Findings, finding("a.bad"))
		}
		for {
			if err := s.Send(batch); err != nil {
				return err
			}
		}
	case "silent-stream": // progress and nothing else, for ever
		for {
			if err := s.Send(&pluginv1.ScanResponse{Progress: &pluginv1.ScanProgress{FilesDone: 1}}); err != nil {
				return err
			}
		}
	case "paths":
		var all []*pluginv1.Finding
		for _, p := range []string{"../x", "/etc/passwd", "a/../../x", "a//b", "./a.bad", "", "nowhere.bad", "a\x00b", `C:\x`, strings.Repeat("d/", 3000) + "x"} {
			all = append(all, finding(p))
		}
		return s.Send(&pluginv1.ScanResponse{Findings: all, Covered: []string{"../x", "/", "", "nowhere.bad"}})
	case "utf8":
		return s.Send(notUTF8())
	}
	return nil
}

// huge is a response of so many bytes, zeros that are held only once: whatever
// machine this is, it can bear to send it.
type huge int

// codec is gRPC's own, which knows huge too.
type codec struct{ encoding.CodecV2 }

func init() { encoding.RegisterCodecV2(codec{encoding.GetCodecV2(proto.Name)}) }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	size, ok := v.(huge)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	zeros := make(mem.SliceBuffer, 1<<20)
	var out mem.BufferSlice
	for left := int(size); left > 0; left -= len(zeros) {
		out = append(out, zeros[:min(left, len(zeros))])
	}
	return out, nil
}

// notUTF8 is a response with a finding whose path is no UTF-8. Protobuf refuses
// to encode one, so it is encoded by hand.
func notUTF8() *pluginv1.ScanResponse {
	location := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "a\xff.bad")
	f := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), rule)
	f = protowire.AppendBytes(protowire.AppendTag(f, 6, protowire.BytesType), location)
	out := &pluginv1.ScanResponse{}
	out.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), f))
	return out
}
