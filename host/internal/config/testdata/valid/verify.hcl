workspace "main" {
  path    = "."
  protect = ["ci/**", "*.golden"]
  verify "build" {
    command = ["go", "build", "./..."]
    env     = { CGO_ENABLED = "0" }
    timeout = "5m"
  }
  verify "test" {
    runner          = "go-test"
    packages        = ["./...", "./deep/..."]
    dir             = "sub"
    coverage        = false
    sandbox_profile = "go"
  }
}

sandbox_profile "go" {
  cache "go-build" {}
}
