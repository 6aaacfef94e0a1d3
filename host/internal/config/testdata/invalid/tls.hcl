api {
  listen       = "somewhere"
  socket_group = "no such:group"
  tls {
    cert                   = ""
    exterior_trust_domains = ["spiffe://example.org"]
  }
}
