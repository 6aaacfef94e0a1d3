workspace "main" {
  path = "/srv/main"
}

plugin "sandbox" "scaffold" {
  command = "/bin/scaffold"
}

plugin "protocol" "scp" {
  command = "/bin/scp"
}

tasks {
  open        = 5
  lease       = "1m"
  attempts    = 2
  backoff_min = "10s"
  backoff_max = "5m"
  concurrency {
    workspace = 1
    plugin    = 4
  }
}

rule "docs" {
  match {
    type      = "documentation_incomplete"
    language  = ["go", "python"]
    path      = "docs/**"
    severity  = "low"
    rule      = ["docs.*"]
    workspace = "main"
  }
  sandbox    = "scaffold"
  scaffold   = "go-doc"
  parameters = { width = 80, tone = "dry", brief = true }
  needs      = ["scp"]
  verify     = ["build", "gap"]
  post_check = ["build"]
  approval   = "auto"
  group      = "file"
  group_size = 3
  budget {
    wall         = "2m"
    money        = 1.5
    model_tokens = 100000
    attempts     = 4
  }
}

rule "agents" {}
