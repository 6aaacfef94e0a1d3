host {}
host {}

locals { x = 1 }
locals { x = 2 }

workspace "main" {
  path = "a"
  scan {}
  scan {}
}

workspace "main" {
  path = "b"
}

workspace "same" {
  path = "./x/../a"
}

plugin "detector" "docs" {
  command = "a"
  config {}
  restart {}
  config {}
  restart {}
}

plugin "detector" "docs" {
  command = "b"
}

plugin "sandbox" "docs" {
  command = "b"
}
