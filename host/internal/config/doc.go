// Package config loads, validates, formats, compares and watches the host's
// configuration, which is written in HCL.
//
// Load reads one file, or every *.hcl file of a directory, and answers with
// either a whole, immutable Config or with every problem found at once; a
// Config that is partly valid never leaves this package. Nothing here starts,
// stops or opens what the configuration names: Diff only says what a change
// from one Config to the next would mean, and Watcher only says that there may
// be something new to load.
//
// A plugin's config block is free-form until the plugin has described its
// schema; Plugin.DecodeConfig then checks the block against a Schema, which is
// untrusted data.
//
// The package is a leaf: it imports nothing else of SOP. It may be imported by
// startup and cli.
package config
