host {
  data_dir        = "state"
  log_level       = "debug"
  reload_debounce = "100ms"
  drain_timeout   = "1m"
}

tokens {
  operation {
    ttl      = "12h"
    max_uses = 2
  }
  todo {
    most_uses = 50
    max_life  = "24h"
  }
}

locals {
  limit = local.base * 3
  base  = 5
  tags  = ["b", "a"]
}

locals {
  logs = "${path.data}/logs"
}

workspace "main" {
  path = env("SOP_TEST_SET", path.config)
  scan {
    on_start      = false
    interval      = "10m"
    exclude       = concat(["testdata/**"], [for t in local.tags : "${t}/*"])
    timeout       = "20m"
    max_file_size = "512KiB"
  }
}

workspace "b" {
  path = "b"
}

plugin "sandbox" "off" {
  command = "/usr/bin/off"
  enabled = false
}

plugin "detector" "docs" {
  command       = "${path.plugins}/detector-docs"
  args          = ["--limit", local.limit, upper("x")]
  env           = { LANG = "C", LOGS = local.logs }
  env_pass      = ["PATH", "HOME"]
  start_timeout = "5s"
  call_timeout  = "1h30m"
  stop_grace    = "1s"
  restart {
    backoff_min      = "1s"
    backoff_max      = "2s"
    breaker_failures = 3
    breaker_window   = "30s"
  }
  limits {
    memory = "1GiB"
    pids   = 512
    cpus   = 1.5
  }
  config {
    limit = local.limit
    rule "a" {
      severity = "high"
    }
  }
}

api {
  listen       = "127.0.0.1:7433"
  socket_mode  = "0660"
  socket_group = "ops"
  tls {
    cert                   = "tls/host.pem"
    key                    = "tls/host.key"
    client_ca              = "tls/clients.pem"
    exterior_trust_domains = ["example.org"]
  }
  rate_limit {
    requests_per_second = 50
    burst               = 80
    system              = true
  }
  limits {
    max_streams     = 8
    max_connections = 200
  }
}

agent "ci" {
  groups      = ["builders", "agents"]
  uid         = 1001
  uids        = [1002]
  common_name = "ci.example.org"
  spiffe      = "spiffe://example.org/ci"
  oidc        = "corp:ci@example.org"
}

agent "deployer" {
  trust      = "system"
  spiffe_ids = ["spiffe://example.org/deployer", "spiffe://example.org/deployer/blue"]
}

oidc "corp" {
  issuer       = "https://login.example.org"
  audience     = ["sop"]
  algorithms   = ["ES256"]
  name_claim   = "email"
  groups_claim = "roles"
  leeway       = "10s"
}
