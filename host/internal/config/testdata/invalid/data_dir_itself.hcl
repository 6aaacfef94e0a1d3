host {
  data_dir = "${path.data}/x"
}
