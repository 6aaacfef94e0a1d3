plugin "protocol" "arp" {
  command = "/usr/lib/sop/protocol-exec"
}

plugin "protocol" "scp" {
  command = "/usr/lib/sop/protocol-http"
}

plugin "protocol" "uip" {
  command = "/usr/lib/sop/protocol-uip"
}

protocol "uip" {
  activation    = "on_demand"
  mode          = "passive"
  idle_stop     = "5m"
  depends_on    = ["arp", "scp"]
  components    = ["uip-web"]
  timeout       = "10s"
  max_in_flight = 8
  max_queue     = 16
  max_payload   = "64KiB"
  max_result    = "1MiB"
  sandboxed     = ["render"]
  calls         = ["arp.analyze", "scp.recall"]

  payloads {
    operations = ["render"]
    keep       = "24h"
    max_total  = "1MiB"
  }
}

protocol "arp" {
  self_test {
    operation = "analyze"
    payload   = { gaps = [{ id = "g1", severity = "high" }] }
    expect    = { plan = ["object"], total = "number" }
    timeout   = "2s"
  }
}

maintenance {
  operator = "night-shift"

  owner "protocol.*" {
    operator = "stack-team"
  }
  owner "component.scp" {
    protocol = "arp"
  }
}

hook "improve" {
  on      = ["task.failed", "gap."]
  call    = "arp.analyze"
  timeout = "5s"
}
