host {
	log_level	= "ÄÖ̈"
}

locals {
  "x" = 1
  a   = 1 +
}
