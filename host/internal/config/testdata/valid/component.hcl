plugin "detector" "docs" {
  command = "/bin/docs"
}

sandbox_profile "tight" {
  level = "strict"
}

component "arp" {
  command        = "bin/arp"
  args           = ["--port", "7001"]
  dir            = "services"
  env            = { MODE = "prod" }
  env_pass       = ["HOME"]
  depends_on     = ["scp", "plugin.detector.docs"]
  requires_ready = true
  start_timeout  = "5s"
  required       = true
  survive        = "adopt"

  readiness {
    http     = "http://127.0.0.1:7001/healthz"
    interval = "20ms"
    timeout  = "500ms"
    recheck  = "0s"
  }
  restart {
    policy           = "always"
    backoff_min      = "50ms"
    breaker_failures = 3
  }
  stop {
    signal = "INT"
    grace  = "2s"
  }
  limits {
    memory = "256MiB"
  }
}

component "scp" {
  command         = "python3"
  args            = ["-m", "scp"]
  activation      = "on_demand"
  idle_stop       = "30s"
  sandbox_profile = "tight"
  readiness {
    notify = true
  }
}

component "uip" {
  command = "./uip"
  readiness {
    log = "listening on .*"
  }
}

component "web" {
  command = "./web"
  readiness {
    http   = "http://web/health"
    socket = "run/web.sock"
  }
}
