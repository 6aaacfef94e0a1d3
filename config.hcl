# The default configuration of SOP: it governs one workspace with the bundled
# detectors. Edit it while the host runs: a change is taken over at once, or
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

# Keeps what is saved: `sop backup list` shows it, docs/backup.md says how to get
# it back.
plugin "backup" "files" {
  command = "${path.plugins}/backup-files"
}

# The host's own state: database, keys and configuration.
backup "state" {
  plugin   = "files"
  state    = true
  interval = "24h"

  retention {
    keep_last = 14
  }
}
