//go:build !front

package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/socket"
	"github.com/sop-host/sop/sdk"
)

// requireConfig answers a newcomer who has no configuration yet.
func (a *app) requireConfig() error {
	path := a.configPath()
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return nil
	}
	if err == nil && len(configFiles(path)) > 0 {
		return nil
	}
	if err != nil && !os.IsNotExist(err) {
		return nil // loading says it better
	}
	return sdk.Errorf(codes.NotFound, "CONFIG_MISSING", "there is no configuration at %s", absolute(path)).
		WithRemedy("write a first one with `sop init`, or name yours with --config")
}

// configuredSocket is where the host of the configuration listens.
func (a *app) configuredSocket() string { return socket.Path(a.dataDir()) }

// dataDir comes from the configuration. A running host must stay within reach
// when its configuration has been broken or deleted meanwhile, so what can
// still be read of it has to do then.
func (a *app) dataDir() string {
	path := a.configPath()
	if cfg, _ := config.Load(path, config.Options{PluginsDir: a.pluginsDir()}); cfg != nil {
		return cfg.Host.DataDir
	}
	return guessDataDir(absolute(path))
}

func guessDataDir(path string) string {
	dir := path
	if info, err := os.Stat(path); err == nil && !info.IsDir() || err != nil && strings.HasSuffix(path, ".hcl") {
		dir = filepath.Dir(path)
	}
	found := ".sop"
	for _, file := range configFiles(path) {
		if value := dataDirIn(file, dir); value != "" {
			found = value
		}
	}
	if filepath.IsAbs(found) {
		return filepath.Clean(found)
	}
	return filepath.Join(dir, found)
}

// dataDirIn returns host.data_dir as far as the file parses and the value
// stands on its own.
func dataDirIn(path, dir string) string {
	src, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	file, _ := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	if file == nil {
		return ""
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		return ""
	}
	known := &hcl.EvalContext{Variables: map[string]cty.Value{
		"path": cty.ObjectVal(map[string]cty.Value{"config": cty.StringVal(dir)}),
	}}
	for _, block := range body.Blocks {
		attribute := block.Body.Attributes["data_dir"]
		if block.Type != "host" || attribute == nil {
			continue
		}
		value, diags := attribute.Expr.Value(known)
		if !diags.HasErrors() && value.IsWhollyKnown() && !value.IsNull() && value.Type() == cty.String {
			return value.AsString()
		}
	}
	return ""
}

// configFiles returns the files that make up the configuration at path.
func configFiles(path string) []string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return []string{path}
	}
	var files []string
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".") && name != config.LockFileName && !entry.IsDir() {
			files = append(files, filepath.Join(path, name))
		}
	}
	return files
}
