package config

import (
	"strings"
	"testing"
)

const diffBase = `
host {
  log_level = "info"
}
locals {
  secret = "hunter2"
}
workspace "main" {
  path = "w"
}
plugin "detector" "a" {
  command = "a"
  args    = ["x"]
  env     = { TOKEN = local.secret, OLD = "1" }
  config {
    limit = 1
    rule "r" {
      level = local.secret
    }
    step {
      run = 1
    }
    step {
      run = 2
    }
  }
}
plugin "sandbox" "off" {
  command = "off"
  enabled = false
}
component "arp" {
  command    = "arp"
  env        = { KEY = "k" }
  depends_on = []
  stop {
    grace = "9s"
  }
}
`

func TestDiff(t *testing.T) {
	edit := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(diffBase) }
	tests := map[string]struct {
		source string
		want   []string // all but the unchanged
	}{
		"nothing":     {diffBase, nil},
		"layout":      {edit("  command = \"a\"\n", "\n  # words\n  command     = \"${\"a\"}\"\n"), nil},
		"tasks":       {diffBase + "tasks {\n  open = 3\n}\nrule \"a\" {}\n", []string{"update host: tasks changed, rule.a changed"}},
		"log level":   {edit(`"info"`, `"debug"`), []string{"update host: log_level changed"}},
		"host timing": {edit("host {\n", "host {\n  drain_timeout = \"1s\"\n  reload_debounce = \"1s\"\n"), []string{"update host: reload_debounce changed, drain_timeout changed"}},
		"token limits": {diffBase + "tokens {\n  operation {\n    ttl = \"1h\"\n    max_uses = 3\n  }\n  test {\n    max_life = \"1h\"\n    most_uses = 20\n  }\n}\n", []string{
			"update host: tokens.operation.ttl changed, tokens.operation.max_uses changed, tokens.test.max_life changed, tokens.test.most_uses changed",
		}},
		"token limits as they are": {diffBase + "tokens {\n  operation {\n    ttl = \"24h\"\n  }\n  test {}\n}\n", nil},
		"data dir":                 {edit("host {\n", "host {\n  data_dir = \"d\"\n"), []string{"restart host: data_dir changed"}},
		"workspace path":           {edit(`"w"`, `"v"`), []string{"restart workspace main: path changed"}},
		"workspace scan": {edit("path = \"w\"", "path = \"w\"\n  scan {\n    interval = \"1h\"\n    on_start = false\n    exclude = [\"x\"]\n    timeout = \"1h\"\n    max_file_size = 1\n  }"), []string{
			"update workspace main: scan.on_start changed, scan.interval changed, scan.timeout changed, scan.exclude changed, scan.max_file_size changed",
		}},
		"component env":        {edit(`KEY = "k"`, `KEY = "other"`), []string{"restart component arp: env.KEY changed"}},
		"component around":     {edit(`grace = "9s"`, `grace = "8s"`, "depends_on = []", `depends_on = ["plugin.detector.a"]`), []string{"update component arp: depends_on changed, stop changed"}},
		"component off":        {edit(`command    = "arp"`, `command    = "arp"`+"\n  enabled = false"), []string{"stop component arp: disabled"}},
		"component by another": {edit(`component "arp"`, `component "scp"`), []string{"stop component arp: removed", "start component scp: added"}},
		"workspace gone":       {edit(`"main"`, `"other"`), []string{"stop workspace main: removed", "start workspace other: added"}},
		"command":              {edit(`"a"`+"\n  args", `"b"`+"\n  args"), []string{"restart plugin detector.a: command changed"}},
		"args":                 {edit(`["x"]`, `["x", "y"]`), []string{"restart plugin detector.a: args changed"}},
		"secret":               {edit("hunter2", "hunter3"), []string{`restart plugin detector.a: env.TOKEN changed, config.rule["r"].level changed`}},
		"env":                  {edit(`OLD = "1"`, `NEW = "1"`), []string{"restart plugin detector.a: env.NEW added, env.OLD removed"}},
		"timing": {edit("args ", "start_timeout = \"1s\"\n  call_timeout = \"1s\"\n  stop_grace = \"1s\"\n  env_pass = [\"HOME\"]\n  restart {\n    backoff_min = \"1s\"\n    backoff_max = \"2s\"\n    breaker_failures = 1\n    breaker_window = \"1s\"\n  }\n  args "), []string{
			"restart plugin detector.a: env_pass changed, start_timeout changed, call_timeout changed, stop_grace changed, restart.backoff_min changed, restart.backoff_max changed, restart.breaker_failures changed, restart.breaker_window changed",
		}},
		"limits": {edit("args ", "limits {\n    memory = \"1GiB\"\n    pids = 99\n    cpus = 0.5\n  }\n  args "), []string{
			"restart plugin detector.a: limits.memory changed, limits.pids changed, limits.cpus changed",
		}},
		"config":        {edit("limit = 1", "most = 1"), []string{"restart plugin detector.a: config.limit removed, config.most added"}},
		"second block":  {edit("run = 2", "run = 3"), []string{"restart plugin detector.a: config.step[1].run changed"}},
		"block removed": {edit("    rule \"r\" {\n      level = local.secret\n    }\n", ""), []string{`restart plugin detector.a: config.rule["r"] removed`}},
		"enabled":       {edit("  enabled = false\n", ""), []string{"start plugin sandbox.off: enabled"}},
		"disabled":      {edit("args ", "enabled = false\n  args "), []string{"stop plugin detector.a: disabled"}},
		"traces on": {diffBase + "\ntelemetry {\n  traces {\n    endpoint = \"http://127.0.0.1:4318\"\n    headers_env = { A = \"hunter\" }\n  }\n}\n", []string{
			"update telemetry: traces.endpoint changed, traces.sample_ratio changed, traces.headers_env.A changed",
		}},
		"renamed": {edit(`"detector" "a"`, `"detector" "z"`), []string{"stop plugin detector.a: removed", "start plugin detector.z: added"}},
	}
	dir := t.TempDir()
	load := func(t *testing.T, source string) *Config {
		t.Helper()
		config, diags := Load(write(t, dir, "c.hcl", source), testOptions)
		if err := diags.Err(); err != nil {
			t.Fatal(err)
		}
		return config
	}
	base := load(t, diffBase)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			checkChanges(t, Diff(base, load(t, test.source), nil), test.want)
		})
	}
	t.Run("identity", func(t *testing.T) {
		next := load(t, diffBase)
		hash := func(p *Plugin) string {
			if p == next.Plugin("detector.a") {
				return "new"
			}
			return "old"
		}
		checkChanges(t, Diff(base, next, hash), []string{"restart plugin detector.a: binary changed"})
	})
	t.Run("from nothing", func(t *testing.T) {
		checkChanges(t, Diff(nil, base, nil), []string{"start workspace main: added", "start plugin detector.a: added", "start component arp: added"})
	})
	t.Run("to nothing", func(t *testing.T) {
		checkChanges(t, Diff(base, nil, nil), []string{"stop workspace main: removed", "stop plugin detector.a: removed", "stop component arp: removed"})
	})
	t.Run("nothing at all", func(t *testing.T) { checkChanges(t, Diff(nil, nil, nil), nil) })
}

func checkChanges(t *testing.T, changes []Change, want []string) {
	t.Helper()
	var got []string
	for _, change := range changes {
		if strings.Contains(change.String(), "hunter") {
			t.Errorf("a secret in %v", change)
		}
		if change.Action != ActionUnchanged {
			got = append(got, change.String())
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
