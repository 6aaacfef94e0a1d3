host {
  log_level = "wrong"
}

workspace "main" {
  path = "unclosed
}

locals {
  text = <<-EOT
    workspace "in_heredoc" {
  workspace "too" {
EOT
  bad = = 1
}

plugin "detector" "docs" {
  command = "docs"
  interval = local.may_be_in_the_broken_block
  config {
    patterns = ["a", "b"
  }
}

plugin "detector" "code" {
  command = 

workspace "last" {
  pth = "x"
}
