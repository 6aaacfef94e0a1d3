locals {
  limit = 2
}

workspace "main" {
  path = local.limt
}
