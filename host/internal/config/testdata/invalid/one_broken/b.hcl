workspace "main" {
  path = local.limit
  pth  = "x"
}
