workspace "main" {
  path    = "."
  protect = ["/etc", "["]
  verify "build" {}
  verify "gap" {
    command = ["true"]
  }
  verify "empty" {
    command = []
  }
  verify "test" {
    runner   = "gotest"
    dir      = "../up"
    packages = ["-exec=x"]
    command  = ["true"]
    timeout  = "0s"
  }
  verify "both" {
    runner          = "go-test"
    command         = ["true"]
    sandbox_profile = "weak"
  }
  verify "both" {
    command         = ["true"]
    sandbox_profile = "wek"
    coverage        = true
  }
  verify {}
}

sandbox_profile "weak" {
  level = "landlock"
}
