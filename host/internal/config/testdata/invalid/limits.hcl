plugin "detector" "names" {
  command = "x"
  limit {
    memory = "1GiB"
  }
  limits {
    memmory = "1GiB"
    cpu     = 2
  }
}

plugin "detector" "values" {
  command = "x"
  limits {
    memory = "15MiB"
    pids   = 15
    cpus   = 0.04
  }
}

plugin "detector" "more" {
  command = "x"
  limits {
    memory = "1GB"
    pids   = 20.5
    cpus   = "all"
  }
  limits {
    pids = 20
  }
}

plugin "detector" "attribute" {
  command = "x"
  limits  = { pids = 20 }
}
