workspace "main" {
  path = "/srv/main"
}

plugin "sandbox" "scaffold" {
  command = "/bin/scaffold"
}

plugin "protocol" "scp" {
  command = "/bin/scp"
}

plugin "protocol" "uip" {
  command = "/bin/uip"
  enabled = false
}

tasks {
  open        = 0
  lease       = "1ms"
  backoff_min = "2h"
  leese       = "1m"
  concurrency {
    workspace = -1
  }
}

tasks {}

rule {}

rule "docs" {
  match {
    type      = ["documentation"]
    path      = "../x"
    severity  = "hihg"
    workspace = "mian"
    language  = "Go"
  }
  sandbox  = "scafold"
  approval = "three"
  verify   = ["Build it"]
  needs    = ["scpp", "uip"]
  group    = "dir"
  budget {
    attempts = 0
    money    = -1
  }
}

rule "docs" {}
