plugin "detector" "docs" {
  command = "/bin/docs"
  enabled = false
}

component "a" {
  command    = "/bin/a"
  depends_on = ["b"]
}

component "b" {
  command    = "/bin/b"
  depends_on = ["c", "c"]
}

component "c" {
  command    = "/bin/c"
  depends_on = ["a"]
}

component "selfish" {
  command    = "/bin/s"
  depends_on = ["selfish"]
}

component "typo" {
  command    = "/bin/t"
  depends_on = ["selfsh", "plugin.detector.dcs", "plugin.detector.docs"]
  survive    = "adpt"
  readiness {
    http = "localhost:80"
    tcp  = "localhost:80"
  }
  stop {
    signal = "TREM"
  }
}

component "elsewhere" {
  command = "/bin/e"
  readiness {
    tcp     = "localhost:80"
    socket  = "e.sock"
    service = "e"
  }
}

component "probe" {
  readiness {
    log      = "("
    interval = "1us"
  }
  restart {
    policy = "sometimes"
  }
  sandbox_profile = "none"
}

component "again" {
  command = "/bin/x"
  readiness {}
}

component "again" {
  command = "/bin/x"
}
