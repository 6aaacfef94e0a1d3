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
    protocol  = "arp"
    operation = "maintain"
  }
}

hook "improve" {
  on      = ["task.failed", "gap."]
  run     = "arp.analyze"
  timeout = "5s"
}

hook "learn" {
  on  = ["patch.", "plugin.snapshot.prune"]
  run = "arp.learn"
}

hook "look" {
  on  = ["patch.rolled_back"]
  run = "detector.docs"
}

hook "keep" {
  on      = ["patch.approved"]
  run     = "backup.files"
  timeout = "1h"
}

hook "stronger" {
  on  = ["task.dead", "gap.open"]
  run = "sandbox.agent"
}

plugin "detector" "docs" {
  command = "/bin/docs"
}

plugin "backup" "files" {
  command = "/bin/files"
}

plugin "sandbox" "agent" {
  command = "/bin/agent"
}
