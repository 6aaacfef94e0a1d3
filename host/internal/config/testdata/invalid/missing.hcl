workspace "main" {
}

plugin "detector" "docs" {
}
