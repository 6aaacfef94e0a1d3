telemetry {
  traces {
    endpoint     = "https://user:secret@collector:4318"
    sample_ratio = 2
    headers_env  = { "a b" = "A", X = "not a name" }
    ratio        = 1
  }
}
telemetry {
  traces {}
}
telemetry {
  traces {
    endpoint = "collector:4318"
  }
}
