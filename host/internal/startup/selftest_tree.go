package startup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The scratch workspace. The marks of unfinished work are put together here, so
// that nobody finds them in this file.
var selfTestTree = map[string]string{
	"README.md":      "# Scratch\n\nA tree with known gaps.\n",
	"go.mod":         "module selftest\n\ngo 1.26\n",
	"greet/greet.go": "package greet\n\nfunc Greet() string { return \"hello\" }\n",
	"work/work.go": "// Package work is unfinished.\npackage work\n\n// Do does the work.\nfunc Do() {\n\tpanic(\"not " + "implemented\")\n}\n\n" +
		"// TO" + "DO: say more\nvar done bool\n\n// Done says so.\nfunc Done() bool { return done }\n",
	"docs/guide.md": "# Guide\n\nSee [the rest](rest.md).\n",
	"run.sh":        "#!/bin/sh\necho run\n",
}

// knownGaps are all that is to be found there, as rule and path.
func knownGaps() []string {
	return []string{
		"code.marker work/work.go", "code.stub work/work.go",
		"docs.go.exported greet/greet.go", "docs.go.package greet/greet.go", "docs.markdown.link docs/guide.md",
	}
}

// mendedGaps are those that mendSelfTestTree mends.
var mendedGaps = []string{"docs.go.exported greet/greet.go", "docs.go.package greet/greet.go", "docs.markdown.link docs/guide.md"}

const (
	blobName = "blob.bin"
	linkName = "link"
	blobSize = 256 << 10
)

// writeSelfTestTree makes the workspace, with a binary file and a link for
// backups.
func writeSelfTestTree(root string) error {
	for name, content := range selfTestTree {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			return err
		}
	}
	blob := make([]byte, 0, blobSize+sha256.Size)
	for sum := sha256.Sum256(nil); len(blob) < blobSize; sum = sha256.Sum256(sum[:]) {
		blob = append(blob, sum[:]...)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(root, blobName), blob[:blobSize], 0o600),
		os.Symlink("docs/guide.md", filepath.Join(root, linkName)),
		os.Chmod(filepath.Join(root, "run.sh"), 0o700), //nolint:gosec // a program of the scratch workspace
	)
}

// mendSelfTestTree mends some of the gaps.
func mendSelfTestTree(root string) error {
	return errors.Join(
		os.WriteFile(filepath.Join(root, "greet", "greet.go"), []byte("// Package greet greets.\npackage greet\n\n// Greet greets.\nfunc Greet() string { return \"hello\" }\n"), 0o600),
		os.WriteFile(filepath.Join(root, "docs", "rest.md"), []byte("# The rest\n\nIs here.\n"), 0o600),
	)
}

// damageSelfTestTree changes, removes and replaces.
func damageSelfTestTree(dir string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	blob, err := root.ReadFile(blobName)
	if err != nil {
		return err
	}
	return errors.Join(
		root.WriteFile(blobName, bytes.ToUpper(blob[:len(blob)/2]), 0o600),
		root.Remove("run.sh"),
		root.RemoveAll("docs"),
		root.Remove(linkName),
		root.WriteFile(linkName, []byte("no link any more"), 0o600),
	)
}

// fingerprint is a hash of all that is in a tree: paths, types, modes, content
// and what links point to.
func fingerprint(dir string) (sum string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	hash := sha256.New()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		switch {
		case info.Mode().IsRegular():
			content, err = root.ReadFile(name)
		case info.Mode()&fs.ModeSymlink != 0:
			var to string
			to, err = root.Readlink(name)
			content = []byte(to)
		}
		_, _ = fmt.Fprintf(hash, "%q %s %d\n", name, info.Mode(), len(content)) // a hash takes everything
		hash.Write(content)
		return err
	})
	return hex.EncodeToString(hash.Sum(nil)), err
}
