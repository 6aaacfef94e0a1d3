package startup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/config"
)

func TestCheckRules(t *testing.T) {
	for name, test := range map[string]struct{ rule, want string }{
		"good":                  {`match { language = "go" }` + "\nverify = [\"gap\", \"sane\"]\npost_check = [\"sane\"]", ""},
		"language":              {`match { language = "golang" }`, "Unknown language"},
		"verify":                {`verify = ["sanity"]`, "Unknown verify step"},
		"post-check":            {`post_check = ["sanity"]`, "Unknown verify step"},
		"gap as a post-check":   {`post_check = ["gap"]`, "Not a post-check"},
		"parameters of nothing": {`parameters = { width = 3 }`, "Parameters of no scaffold"},
		"parameters":            {`parameters = { width = 3 }` + "\nscaffold = \"go-doc\"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "config.hcl")
			text := fmt.Sprintf("workspace \"main\" {\n  path = %q\n  verify \"sane\" { command = [\"true\"] }\n}\nrule \"r\" {\n%s\n}\n", dir, test.rule)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, diags := config.Load(path, config.Options{})
			if cfg == nil {
				t.Fatal(diags)
			}
			got := checkRules(cfg)
			if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || got[0].Summary != test.want || got[0].Line == 0) {
				t.Errorf("%v", got)
			}
			for _, d := range got {
				if !strings.Contains(d.Detail, `The rule "r"`) {
					t.Error(d.Detail)
				}
			}
		})
	}
}
