locals {
  limit = 1
}

workspace "main" {
  path = "."
}
