host {
  log_level = "info"
}

plugin "detector" "docs" {
  command = "docs"
  env = {
