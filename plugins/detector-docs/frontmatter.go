package main

import (
	"bytes"
	"strings"
)

// frontMatter returns how long the front matter at the start of content is,
// closing line and all: YAML between "---", or TOML between "+++". 0 is none.
func frontMatter(content []byte) int {
	start := 0
	if bytes.HasPrefix(content, []byte("\ufeff")) {
		start = len("\ufeff")
	}
	fence := content[start:min(len(content), start+3)]
	if s := string(fence); s != "---" && s != "+++" {
		return 0
	}
	first := true
	for at := start; at < len(content); {
		end := bytes.IndexByte(content[at:], '\n')
		if end < 0 {
			end = len(content)
		} else {
			end += at + 1
		}
		line := bytes.TrimRight(content[at:end], " \t\r\n")
		if !first && (bytes.Equal(line, fence) || string(line) == "...") {
			return end
		}
		if first && !bytes.Equal(line, fence) || !first && len(line) == 0 && at-start <= len("---\r\n") {
			return 0 // a rule, not front matter
		}
		first, at = false, end
	}
	return 0
}

// routeKeys are the keys of front matter that give a page another address.
var routeKeys = map[string]bool{
	"slug": true, "url": true, "permalink": true, "id": true, "aliases": true, "redirect_from": true, "link": true,
}

// routesIn lists the last elements of the addresses that front matter gives.
func routesIn(matter []byte) []string {
	var routes []string
	listing := false
	for line := range strings.Lines(string(matter)) {
		text := strings.TrimSpace(line)
		item, isItem := strings.CutPrefix(text, "- ")
		if !isItem {
			key, value, ok := strings.Cut(text, ":")
			if !ok {
				key, value, ok = strings.Cut(text, "=")
			}
			listing = ok && routeKeys[strings.ToLower(strings.Trim(key, " \t\"'"))]
			item = value
		}
		if listing {
			for _, one := range strings.Split(item, ",") {
				if r := lastElement(strings.Trim(one, " \t\"'[]")); r != "" {
					routes = append(routes, r)
				}
			}
		}
	}
	return routes
}

// lastElement of an address, in the form that [site.names] has.
func lastElement(address string) string {
	address = strings.Trim(address, "/")
	return pageName(address[strings.LastIndexByte(address, '/')+1:])
}
