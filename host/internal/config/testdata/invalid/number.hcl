locals {
  huge = "${1e99999999}"
}
