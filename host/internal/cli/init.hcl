# The configuration of the SOP host. Check it with `sop validate`. The running
# host takes changes over by itself; `sop plan` says beforehand what they mean.
# Paths start at the directory of this file. Expressions may use env("NAME"),
# file("path"), local.*, path.config, path.data and path.plugins.

host {
  # State, logs and backups.
  data_dir = ".sop"

  # trace, debug, info, warn or error
  log_level = "info"
}

# A workspace is a tree that SOP watches, usually a repository. Name as many as
# you like.
workspace "main" {
  path = "."

  scan {
    # Scan when the host starts, and then this often.
    on_start = true
    interval = "1h"

    # What not to look at, as in .gitignore, which is heeded anyway.
    exclude = []
  }
}

# Plugins do the work, each in a process of its own. A plugin starts only when
# its checksum is the one in sop.lock.hcl: run `sop plugin lock` after adding or
# updating one.

# Missing documentation and broken links.
plugin "detector" "docs" {
  command = "${path.plugins}/detector-docs"
}

# Marks of unfinished work, stubs, and functions that are too complex.
plugin "detector" "code" {
  command = "${path.plugins}/detector-code"
}
