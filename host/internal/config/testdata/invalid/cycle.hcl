locals {
  a = local.b + 1
  b = local.c
}

locals {
  c    = "${local.a}x"
  self = local.self
  fine = local.a # depends on a cycle, and is not blamed
}

host {
  data_dir = "${local.root}/data"
}

locals {
  root = path.data
}
