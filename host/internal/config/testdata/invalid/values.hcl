host {
  data_dir        = ""
  log_level       = "infos"
  reload_debounce = "200"
  drain_timeout   = "-1s"
}

workspace "main" {
  path = 12 / 0 # infinite
  scan {
    on_start      = "maybe"
    interval      = 10
    exclude       = ["ok/**", "", "[a", null, "a/\\"]
    timeout       = "1000h"
    max_file_size = "4MB"
  }
}

workspace "two" {
  path = null
  scan {
    interval      = "500ms"
    exclude       = "testdata"
    timeout       = "soon"
    max_file_size = -1
  }
}

workspace "three" {
  path = "x"
  scan {
    max_file_size = "2GiB"
    on_start      = null
  }
}

plugin "detector" "docs" {
  command       = ["x"]
  args          = ["a", { b = 1 }, "c"]
  env           = { LANG = "C", "1BAD" = "x", NULL = null, DEEP = [1] }
  env_pass      = ["HOME", "BAD-NAME", "HOME"]
  enabled       = 3
  start_timeout = "0s"
  call_timeout  = "200h"
  stop_grace    = {}
  restart {
    backoff_min      = "10s"
    backoff_max      = "5s"
    breaker_failures = 2.5
    breaker_window   = "1ms"
  }
}

plugin "sandbox" "env" {
  command  = "x\u0000y"
  env      = { HOME = "/root", "A=B" = "x" }
  env_pass = ["HOME"]
  restart {
    breaker_failures = 0
    backoff_min      = "1m"
  }
}
