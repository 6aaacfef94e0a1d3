locals {
  unset    = env("SOP_TEST_UNSET")
  default  = env("SOP_TEST_UNSET", "x")
  name     = env("A B")
  three    = env("A", "b", "c")
  set      = env("SOP_TEST_SET")
  none     = file("testdata/nothing.txt")
  dir      = file("..")
  empty    = file("")
  wide     = format("%999999999d", 1)
  few      = upper()
  type     = upper([])
  length   = length(3)
  index    = [1, 2][5]
  whole    = local
  whole2   = path
  big      = jsondecode("1e9999")
  multiple = [lowr("a"), uppr("b"), local.nope]
}
