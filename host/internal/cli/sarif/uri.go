package sarif

import (
	"net/url"
	"strings"
)

// relativeURI returns a slash-separated path as a relative reference. Bytes
// that are not UTF-8 are encoded as they are.
func relativeURI(path string) string {
	if path == "" || path == "." {
		return "./"
	}
	return escapePath(path)
}

// directoryURI returns the absolute path of a directory as a URI that relative
// references can be resolved against.
func directoryURI(path string) string {
	return "file://" + strings.TrimSuffix(escapePath(path), "/") + "/"
}

// escapePath encodes all but unreserved characters and slashes; a colon too,
// which would make the first segment look like a scheme.
func escapePath(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c == '/' || isUnreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteString(string([]byte{'%', hex[c>>4], hex[c&15]}))
		}
	}
	return b.String()
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func isAbsoluteURI(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs()
}
