# The example stack: ARP is a program on standard streams, SCP an HTTP service that
# the host supervises, UIP a plugin of its own. `make build` compiles them.
#
#   bin/sop plugin lock --config examples/stack/sop.hcl
#   bin/sop up --config examples/stack/sop.hcl
#   bin/sop protocol call --config examples/stack/sop.hcl uip render --payload '{"gaps": []}'

host {
  data_dir = "${path.cwd}/.sop-stack"
}

locals {
  stack      = "${path.config}/../../bin/stack"
  scp_socket = "${path.data}/scp.sock"
}

# SCP, a service on this machine. It comes online before the protocol that reaches it.
# A socket of its own in the data_dir never collides with another host's; a service
# with a port has it in url, and no socket.
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

# ARP, a program that reads requests and writes answers, a JSON text a line each.
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

# UIP, a plugin of its own. It is there when somebody calls it, after ARP and SCP,
# and may ask them what its reports are made of.
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

maintenance {
  operator = "stack-team"
}
