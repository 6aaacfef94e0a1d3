sandbox_profile "strictest" {}

sandbox_profile "service" {
  enforce = false
  network {
    mode = "full"
  }
}

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
  network {
    allow         = ["modules.example.com:443", "[2001:4860::8888]:53"]
    allow_private = ["mirror:8080"]
    credential "api.example.org:443" {
      header   = "authorization"
      prefix   = "Bearer "
      file     = "key"
      variable = "API_KEY"
    }
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
