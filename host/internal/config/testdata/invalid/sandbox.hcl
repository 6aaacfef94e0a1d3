sandbox_profile "a" {
  level     = "strickt"
  read_only = ["opt", "/opt/../etc"]
  network   = "all"
  limits {
    wall   = "0s"
    memory = "none"
    pids   = 0
    cores  = 2
  }
  cache "go-bild" {}
  cache "pip" {
    path = "/"
    env  = ["A B"]
    size = "1GiB"
  }
  cache "pip" {}
}

sandbox_profile "a" {}

sandbox_profile {}

plugin "detector" "boxed" {
  command         = "./detector"
  sandbox_profile = "defualt"
}
