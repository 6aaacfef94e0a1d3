package workspace

// vendored reports whether a directory of that name holds code that somebody else maintains.
func vendored(name string) bool {
	switch name {
	case "vendor", "node_modules", "third_party", "bower_components", "site-packages", "Godeps":
		return true
	default:
		return false
	}
}

// maybeVirtualenv reports whether a directory of that name is a Python environment if it holds a virtualenvMark.
func maybeVirtualenv(name string) bool { return name == "venv" || name == ".venv" }

const virtualenvMark = "pyvenv.cfg"
