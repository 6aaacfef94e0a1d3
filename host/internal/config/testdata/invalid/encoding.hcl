host {
  # grün
}
