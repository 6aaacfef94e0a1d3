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

sandbox_profile "net" {
  enforce = "perhaps"
  network {
    mode          = "lopback"
    allow         = ["*.example.org:443", "example.org", "127.1:80", "example.org:http"]
    allow_private = ["[::1]:80", "mirror:0"]
    credential "api.example.org:443" {
      header = "Connection"
      prefix = "a\r\nb"
    }
    credential "API.example.org:443" {
      header = "x-api-key"
      env    = "KEY"
    }
    credential "api.example.org" {
      header = "x-api-key"
      env    = "KEY"
      file   = "key"
    }
  }
}

sandbox_profile "a" {}

sandbox_profile {}

plugin "detector" "boxed" {
  command         = "./detector"
  sandbox_profile = "defualt"
}
