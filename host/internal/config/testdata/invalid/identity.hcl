api {
  listen      = "127.0.0.1:7433"
  socket_mode = "0777"
}

api {}

agent "root" {
  uid = 1
}

agent "ci" {
  trust       = "full"
  uid         = -1
  common_name = ""
  spiffe      = "https://example.org/ci"
  groups      = ["Ops"]
}

agent "one" {
  uid    = 1001
  spiffe = "spiffe://example.org/one"
}

agent "two" {
  uids       = [1000, 1001]
  spiffe_ids = ["spiffe://example.org/one"]
}

agent "nothing" {
}

agent "three" {
  oidc_subjects = ["corp:", "a:alice", "gone:alice"]
}

agent "four" {
  oidc = "a:alice"
}

agent {
  uid = 7
}

oidc "corp" {
  issuer     = "http://login.example.org"
  audience   = []
  algorithms = ["none", "HS256"]
  leeway     = "1h"
}

oidc "a" {
  issuer   = "https://login.example.org"
  audience = ["sop"]
}

oidc "b" {
  issuer   = "https://login.example.org"
  audience = ["sop"]
}
