hots {
  log_level = "info"
}

host {
  loglevel = "info"
  drain    = local.limt
}

locals {
  limit  = 15
  object = { colour = "red" }
  used   = local.object.color
}

workspace "main" {
  path = pth.config
  scn {
    on_start = true
  }
}

workspace "other" {
  path = path.confg
  scan {
    intervall = "10m"
    timeout   = uper("1m")
  }
}

plugin "detectr" "docs" {
  comand  = "x"
  command = info
}

plugin "detector" "code" {
  command = "${path.plugins}/code"
  env {
    LANG = "C"
  }
  restart = {}
  restrat {}
  config {
    a = local.nothing_like_it
    b {
      c = lowr(local.limitt)
    }
  }
}

workspac = "main"
