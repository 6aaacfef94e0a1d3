host "x" {}

locals "x" {
  a {}
}

workspace {
  pth = "."
}

workspace "Main" {
  path = "."
}

workspace "a" "b" {
  path = "."
}

plugin "detector" {
  command = "x"
}

plugin "detector" "a b" {
  command = "x"
}

plugin "detector" "a" "b" {
  command = "x"
}

plugin "" "" {
  command = "x"
  restart "x" {
    backoff = 1
  }
  config "x" {}
}
