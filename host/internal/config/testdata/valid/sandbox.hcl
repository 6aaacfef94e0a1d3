sandbox_profile "strictest" {}

sandbox_profile "builder" {
  level     = "ns-noproc"
  read_only = ["/opt/toolchain"]
  limits {
    wall       = "20m"
    cpu        = "5m"
    memory     = "2GiB"
    output     = "256KiB"
    disk       = "512MiB"
    pids       = 64
    open_files = 256
    inodes     = 10000
  }
  cache "go-build" {}
  cache "go-mod" {
    path = "/srv/go/mod"
  }
  cache "mine" {
    path = "/srv/mine"
    env  = ["MINE_CACHE"]
  }
}

plugin "detector" "boxed" {
  command         = "./detector"
  sandbox_profile = "builder"
}

plugin "detector" "standard" {
  command         = "./detector"
  sandbox_profile = "default"
}
