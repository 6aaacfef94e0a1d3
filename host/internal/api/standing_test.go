package api

import (
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

type watching = *connect.ServerStreamForClient[apiv1.WatchResponse]

// watch opens a stream of events.
func (a *access) watch(c *http.Client, address, authorization string) watching {
	a.t.Helper()
	req := connect.NewRequest(&apiv1.WatchRequest{})
	if authorization != "" {
		req.Header().Set("Authorization", authorization)
	}
	stream, err := apiv1connect.NewEventClient(c, address).Watch(a.t.Context(), req)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		if err := stream.Close(); err != nil {
			a.t.Error(err)
		}
	})
	if !stream.Receive() {
		a.t.Fatal(stream.Err())
	}
	return stream
}

// ends reads a stream until it ends, which must be with an error.
func (a *access) ends(stream watching, code connect.Code, reason string) {
	a.t.Helper()
	for stream.Receive() {
	}
	if connect.CodeOf(stream.Err()) != code || wireReason(stream.Err()) != reason {
		a.t.Errorf("the stream ended with %v, want %v %s", stream.Err(), code, reason)
	}
}

// denials counts the records of an action that were denied for a reason.
func (a *access) denials(action, reason string) int {
	n := 0
	for _, r := range a.log.all() {
		if r.Action == action && r.Outcome == audit.Denied && r.Reason == reason {
			n++
		}
	}
	return n
}

// A stream does not outlive what let its caller in, and others do not suffer.
func TestStreamsEndWithTheirPermission(t *testing.T) {
	a := serveAccess(t)
	var keys []string
	for _, name := range []string{"revoked", "replaced", "stays"} {
		k, _, err := a.agents.Enroll(t.Context(), agent.Spec{Name: name, Trust: "system", By: "test"})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, "Bearer "+k.Reveal())
	}
	tcp := a.client(nil)
	revoked, replaced, stays := a.watch(tcp, a.address, keys[0]), a.watch(tcp, a.address, keys[1]), a.watch(tcp, a.address, keys[2])
	bob := "Bearer " + a.provider.sign(a.provider.claimsAt(time.Now()), map[string]any{"email": "bob@example.org"})
	mapped := a.watch(tcp, a.address, bob)
	local := a.watch(a.local(), "http://sop", "")

	// The agent, or its key, is no more.
	if _, err := a.agents.Revoke(t.Context(), "revoked", "test", ""); err != nil {
		t.Fatal(err)
	}
	a.ends(revoked, connect.CodeUnauthenticated, agent.ReasonRevoked)
	if n := a.denials("access.authenticate", agent.ReasonRevoked); n != 1 {
		t.Errorf("%d records of the revoked agent", n)
	}
	if _, _, err := a.agents.Rotate(t.Context(), agent.Rotation{Name: "replaced", By: "test"}); err != nil {
		t.Fatal(err)
	}
	a.ends(replaced, connect.CodeUnauthenticated, agent.ReasonRotated)

	// The configuration has another name for it, which may do the same.
	a.config.Agents[1].Name = "robert"
	a.server.Identify(NewIdentities(a.config, a.certs.Roots(), []*Issuer{a.issuer}))
	a.ends(mapped, connect.CodeUnauthenticated, reasonRenamed)
	mapped = a.watch(tcp, a.address, bob)

	// The configuration does not name it any more: it is somebody of the issuer.
	a.config.Agents = a.config.Agents[2:]
	a.server.Identify(NewIdentities(a.config, a.certs.Roots(), []*Issuer{a.issuer}))
	a.ends(mapped, connect.CodePermissionDenied, nexus.ReasonNotPermitted)

	// Policy forbids it.
	if stays.Err() != nil || local.Err() != nil {
		t.Errorf("streams ended with those of others: %v %v", stays.Err(), local.Err())
	}
	a.policy.Replace(livePolicy(t, `permit (principal, action, resource);
@id("quiet") forbid (principal, action == Action::"event.watch", resource) unless { principal.name == "me" };`).Set())
	a.ends(stays, connect.CodePermissionDenied, nexus.ReasonForbidden)
	if n := a.denials("access.event.watch", nexus.ReasonForbidden); n != 1 {
		t.Errorf("%d records of what policy forbids", n)
	}
	a.policy.Replace(livePolicy(t, `permit (principal, action == Action::"host.status", resource);`).Set())
	a.ends(local, connect.CodePermissionDenied, nexus.ReasonNotPermitted)
}
