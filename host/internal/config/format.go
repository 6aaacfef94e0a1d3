package config

import (
	"bytes"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns src in the canonical layout, which changes white space only:
// formatting again changes nothing, and every word and comment is still there.
// The result is nil if and only if the diagnostics have errors, which is when
// src is not valid HCL or is larger than 4 MiB. The filename is only shown.
func Format(src []byte, filename string) ([]byte, Diagnostics) {
	diags := checkSyntax(src, filename)
	if diags.HasErrors() {
		return nil, finish(diags, map[string][]byte{filename: src})
	}
	return layOut(src), finish(diags, map[string][]byte{filename: src})
}

func checkSyntax(src []byte, filename string) hcl.Diagnostics {
	if len(src) > maxFileSize {
		return hcl.Diagnostics{problem(wholeFile(filename), "Cannot format the file", "It is larger than %s.", formatSize(maxFileSize))}
	}
	if len(bytes.TrimSpace(src)) == 0 {
		return nil
	}
	_, diags := parse(filename, src)
	return diags
}

// layOut formats until nothing changes any more, which one pass does not
// always reach. A layout that is not stable, or not the same tokens, is not
// used.
func layOut(src []byte) []byte {
	const mostPasses = 8
	current := bytes.Clone(src)
	for range mostPasses {
		next := hclwrite.Format(current)
		if len(next) > 0 && next[len(next)-1] != '\n' {
			next = append(next, '\n')
		}
		if bytes.Equal(next, current) {
			return current
		}
		if !sameTokens(src, next) {
			break
		}
		current = next
	}
	return bytes.Clone(src)
}

// sameTokens reports whether two sources differ in white space only. Line ends
// are tokens too, except at the end of the file.
func sameTokens(a, b []byte) bool {
	return slices.EqualFunc(contentTokens(a), contentTokens(b), func(x, y hclsyntax.Token) bool {
		if x.Type != y.Type {
			return false
		}
		if x.Type == hclsyntax.TokenComment {
			return bytes.Equal(bytes.TrimSpace(x.Bytes), bytes.TrimSpace(y.Bytes))
		}
		return bytes.Equal(x.Bytes, y.Bytes)
	})
}

func contentTokens(src []byte) hclsyntax.Tokens {
	tokens, _ := hclsyntax.LexConfig(src, "", hcl.InitialPos) // both sides were parsed before
	for len(tokens) > 0 {
		last := tokens[len(tokens)-1].Type
		if last != hclsyntax.TokenEOF && last != hclsyntax.TokenNewline {
			break
		}
		tokens = tokens[:len(tokens)-1]
	}
	return tokens
}
