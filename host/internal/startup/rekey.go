package startup

import (
	"path/filepath"

	"github.com/sop-host/sop/host/internal/audit"
)

// rekeyed records that a key under which secrets are hashed was gone and has been made
// anew. That is a way to end them all at once, and must not go unseen where it was
// not meant so.
func (h *host) rekeyed(path, ended string) {
	name := filepath.Base(path)
	h.logger.Warn(name+" was gone and is made anew: "+ended, "remedy", "if that was not meant, stop the host and restore the file from a backup")
	h.facts.Record(audit.Record{
		Actor: actorHost, Action: "host.rekey", Resource: "host", Outcome: audit.Success, Reason: ended,
		Attributes: map[string]string{"key": name},
	})
}
