package startup

import "github.com/sop-host/sop/sdk/scaffold"

// Scaffolds returns the bundled scaffolds with those in dir; an empty dir is
// none.
func Scaffolds(dir string) (*scaffold.Set, error) { return scaffold.Load(dir) }
