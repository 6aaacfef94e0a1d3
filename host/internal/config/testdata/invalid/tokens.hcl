tokens "x" {
  ttl = "1h"
  operation {
    ttl       = "3h"
    max_life  = "2h"
    max_uses  = 11
    most_uses = 10
  }
  todo {
    max_uses = 0
    life     = "1h"
  }
  todo {}
  intergration {
    ttl = "1h"
  }
  test {
    ttl = "soon"
  }
}

tokens {}
