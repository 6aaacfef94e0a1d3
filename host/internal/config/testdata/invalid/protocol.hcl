plugin "protocol" "arp" {
  command = "/usr/lib/sop/protocol-exec"
}

plugin "protocol" "scp" {
  command = "/usr/lib/sop/protocol-exec"
}

plugin "protocol" "uip" {
  command = "/usr/lib/sop/protocol-exec"
}

protocol "arq" {}

protocol "arp" {
  depends_on = ["scp", "upi"]
  idle_stop  = "5m"
  calls      = ["arp.analyze", "scp", "scp.recall", "scq.recall"]
  sandboxed  = ["a b"]
}

protocol "scp" {
  depends_on = ["uip"]
  activation = "on-demand"

  self_test {
    payload = 1
  }
}

protocol "uip" {
  depends_on = ["arp"]

  payloads {
    keep = "1s"
  }
}

protocol "uip" {}

maintenance {
  operator = "a b"
  protocol = "arp"

  owner "Component" {
    operator = "x"
  }
  owner "disk" {}
  owner "disk" {
    protocol = "arpp"
  }
  owner "memory" {
    operator  = "x"
    operation = "maintain"
  }
  owner "audit" {
    protocol  = "arp"
    operation = "maintain"
  }
  owner "backup.*" {
    protocol  = "arp"
    operation = "mend"
  }
}

hook "nothing" {
}

hook "loop" {
  on   = ["protocol.call", "task", "gap.open"]
  run  = "apr.analyze"
}

hook "loop" {
  on      = ["gap.open"]
  run     = "arp"
  timeout = "0s"
}

hook "kinds" {
  on  = ["gap.opened", "task.faild", "tsak.failed", "task.failed", "task.", "plugin.snapshot.prune", "plugin.snapshot.", "plugin.crash"]
  run = "arp.learn"
}

hook "plugins" {
  on  = ["plugin.exit", "gap."]
  run = "detector.dosc"
}

hook "peer" {
  on  = ["task.failed"]
  run = "protocol.arp"
}

hook "both" {
  on   = ["task.failed"]
  run  = "arp.learn"
  call = "arp.learn" # there is no such attribute
}

hook "work" {
  on  = ["workspace.scan", "patch.denied"]
  run = "sandbox.off"
}

hook "neither" {
  on  = ["task.failed"]
  run = "improve"
}

plugin "detector" "docs" {
  command = "/bin/docs"
}

plugin "sandbox" "off" {
  command = "/bin/off"
  enabled = false
}
