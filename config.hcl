# The default configuration of SOP: it governs one workspace with the bundled
# detectors, and brings a small stack online, ARP, SCP and UIP. Edit it while the host runs: a change is taken over at once, or
# refused as a whole with file, line and cause (see `sop status`).
#
# The language is described in docs/configuration.md.

host {
  data_dir  = ".sop" # state, logs and backups; relative to this file
  log_level = "info"
}

workspace "main" {
  # `make run WORKSPACE=/some/repo` governs another tree.
  path = env("SOP_WORKSPACE", path.config)

  scan {
    on_start = true
    interval = "10m"
    exclude  = ["/examples/workspace/"] # has gaps on purpose
  }
}

# A small Go module with gaps on purpose, which SOP may change: `make build` puts a
# copy of examples/workspace here. `git -C bin/example diff` shows what SOP did.
workspace "example" {
  path = "${path.plugins}/../example"

  scan {
    on_start = true
  }
}

# Undocumented symbols, missing README files, broken links and anchors.
plugin "detector" "docs" {
  command = "${path.plugins}/detector-docs"
}

# Markers (TODO, FIXME …), stubs, functions that are too complex.
plugin "detector" "code" {
  command = "${path.plugins}/detector-code"

  config {
    complexity_limit = 15
  }
}

# This machine, compared with what is expected of it: docs/detectors.md names all
# that can be.
plugin "detector" "infra" {
  command = "${path.plugins}/detector-infra"

  config {
    workspace = "main"

    disk "/" {
      max_used = 97
    }
    memory {
      max_used = 98
    }
  }
}

# Makes changes from templates: doc comments, README skeletons, moved links.
plugin "sandbox" "scaffold" {
  command = "${path.plugins}/sandbox-scaffold"
}

# Keeps what is about to be replaced, and what schedules save: `sop backup list`
# shows it, docs/backup.md says how to get it back.
plugin "backup" "files" {
  command = "${path.plugins}/backup-files"
}

# Whole workspaces: deduplicated, compressed and encrypted, in a kopia repository.
# It wants a password, so it is yours to switch on (docs/backup.md):
#
#   plugin "backup" "vault" {
#     command = "${path.plugins}/backup-kopia"
#
#     config {
#       directory     = "/mnt/backup/vault"
#       password_file = "/etc/sop/vault.password" # openssl rand -base64 32
#     }
#   }
#
#   backup "workspace" {
#     plugin    = "vault"
#     workspace = "main"
#     interval  = "6h"
#   }

# The host's own state: database, keys and configuration.
backup "state" {
  plugin   = "files"
  state    = true
  interval = "24h"

  retention {
    keep_last = 14
  }
}

# Undocumented symbols of the example are documented without asking anybody, once
# every verify step has passed. Only the example: what is yours, SOP does not touch
# until a rule of yours says so (docs/tasks.md).
rule "example-docs" {
  match {
    workspace = "example"
    rule      = "docs.go.exported"
  }
  sandbox  = "scaffold"
  approval = "auto"
}

# Whatever else the templates can mend there waits for somebody's approval.
rule "example-rest" {
  match {
    workspace = "example"
    type      = "documentation_incomplete"
  }
  sandbox  = "scaffold"
  approval = "one"
}

# The stack that SOP is the hub of, as examples/stack shows it: three small
# services that stand for ARP, SCP and UIP. Put your own in their place
# (docs/protocols.md), or remove everything from here on.
locals {
  stack      = "${path.plugins}/../stack"
  scp_socket = "${path.data}/scp.sock" # a port could be somebody else's; this never is
}

# SCP, cognition: an HTTP service that the host runs and watches.
component "scp" {
  command = "${local.stack}/scp"
  args    = ["-listen", "unix:scp.sock"]
  dir     = path.data

  readiness {
    http     = "http://scp/health"
    socket   = local.scp_socket
    interval = "50ms"
  }
}

plugin "protocol" "scp" {
  command = "${path.plugins}/protocol-http"

  config {
    url        = "http://scp"
    socket     = local.scp_socket
    health     = "health"
    operations = ["learn", "recall"]
    safe       = ["recall"]
  }
}

protocol "scp" {
  components = ["scp"]

  self_test {
    operation = "recall"
    payload   = { terms = ["self-test"] }
    expect    = { facts = ["object"], known = "number" }
  }
}

# ARP, reasoning: a program that reads requests and writes answers on its standard
# streams.
plugin "protocol" "arp" {
  command = "${path.plugins}/protocol-exec"

  config {
    command    = ["${local.stack}/arp"]
    operations = ["analyze"]
  }
}

protocol "arp" {
  self_test {
    operation = "analyze"
    payload   = { gaps = [{ id = "1", severity = "high", path = "a.go", rule = "code.stub" }] }
    expect    = { plan = [{ rank = "number", gaps = ["string"] }], total = 1 }
  }
}

# UIP, user interaction: a protocol plugin of its own. The first call of it brings it
# up, after ARP and SCP, which it may ask; without calls it is stopped again.
#
#   bin/sop protocol call uip render --payload '{"gaps": []}'
plugin "protocol" "uip" {
  command = "${local.stack}/uip"
}

protocol "uip" {
  activation = "on_demand"
  idle_stop  = "5m"
  depends_on = ["arp", "scp"]
  calls      = ["arp.analyze", "scp.recall"]
  sandboxed  = ["echo"]
}
