package sarif

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

var update = flag.Bool("update", false, "write the golden files")

// schemaPath is where the published schema lies: OASIS's document comes with a
// module that the linter in tools/go.mod depends on, unchanged.
func schemaPath(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/securego/gosec/v2")
	cmd.Dir = "../../../../tools"
	dir, err := cmd.Output()
	if err != nil {
		t.Skipf("the module that holds the schema is not known here: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), "report", "sarif", "testdata", "sarif-schema-2.1.0.json")
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	file, err := os.Open(schemaPath(t))
	if err != nil {
		t.Skipf("the schema is not on this machine (%v); `make tools` brings it, and CI has it", err)
	}
	defer file.Close()
	doc, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func richOutcome() *startup.ScanOutcome {
	return &startup.ScanOutcome{
		Rules: []startup.Rule{
			{ID: "docs.go.exported", Version: "1", Summary: "Exported symbol without comment", HelpURI: "https://example.org/r", Type: "documentation_incomplete", Severity: "low", Detector: "detector.docs"},
			{ID: "code.stub", Version: "2", HelpURI: "not a uri", Severity: "high"},
		},
		Gaps: []*apiv1.GapRecord{
			{Rule: "code.stub", Severity: "high", Path: "a b/ü:%.go", Line: 3, EndLine: 5, Symbol: "T.Run", Message: "stub <x>", Remedy: "write it", Fingerprint: "v1:abc", State: "open"},
			{Rule: "docs.go.exported", Severity: "low", Path: "bad\xff.go", Line: 1, Message: "m", State: "suppressed", SuppressReason: "later"},
			{Rule: "docs.readme", Severity: "medium", Type: "documentation_incomplete", Path: ".", Message: "no README"},
			{Rule: "x.critical", Severity: "critical", Path: "c:/x", Line: 9, EndLine: 2, Message: "m"},
		},
		Scan: &apiv1.ScanReport{
			StartedAt: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 6000000, time.UTC)), Took: durationpb.New(1500 * time.Millisecond),
			Complete: false, Files: 12, Skipped: map[string]int64{"vendored": 3}, Error: "detector.code stopped",
			Diagnostics: []*apiv1.ScanDiagnostic{
				{Detector: "detector.docs", Path: "x.md", Line: 4, Reason: "TOO_LARGE", Message: "larger than 1 MiB"},
				{Reason: "OTHER", Message: "no place"},
			},
		},
	}
}

func TestValidatesAgainstSchema(t *testing.T) {
	schema := compileSchema(t)
	for name, outcome := range map[string]*startup.ScanOutcome{
		"rich":  richOutcome(),
		"empty": {Scan: &apiv1.ScanReport{}},
		"nil":   {},
	} {
		for _, version := range []string{"1.2.3", "v1.2.3-rc.1", "dev", ""} {
			var out bytes.Buffer
			if err := Write(&out, outcome, "/srv/my repo", version); err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(&out)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Errorf("%s, version %q: %v", name, version, err)
			}
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	doc := map[string]any{"version": "2.1.0", "runs": []any{map[string]any{"results": []any{}}}}
	if err := compileSchema(t).Validate(doc); err == nil {
		t.Error("the schema accepts a run without a tool: it tests nothing")
	}
}

func TestGolden(t *testing.T) {
	var out bytes.Buffer
	if err := Write(&out, richOutcome(), "/srv/my repo", "1.2.3"); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/rich.sarif", out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/rich.sarif")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("differs from testdata/rich.sarif (go test -update writes it):\n%s", out.Bytes())
	}
}

func TestRuleIndex(t *testing.T) {
	log := newLog(richOutcome(), "/", "1.0.0")
	for _, r := range log.Runs[0].Results {
		if got := log.Runs[0].Tool.Driver.Rules[r.RuleIndex].ID; got != r.RuleID {
			t.Errorf("result of %s points to rule %s", r.RuleID, got)
		}
	}
	if raw, err := json.Marshal(log); err != nil || !json.Valid(raw) {
		t.Errorf("invalid JSON: %v", err)
	}
	if got := directoryURI("/"); got != "file:///" {
		t.Errorf("directoryURI(/) = %q", got)
	}
}
