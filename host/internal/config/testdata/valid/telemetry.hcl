telemetry {
  traces {
    endpoint     = "https://collector.example:4318"
    sample_ratio = 0.25
    headers_env = {
      Authorization = "OTLP_AUTHORIZATION"
    }
  }
}
