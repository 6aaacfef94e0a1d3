api {
  tls {
    cert = "a"
    key  = "b"
  }
}
