locals {
  limit = 
}
