package startup

import (
	"errors"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/halt"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// A stop that was made and lifted without a host ends the tokens of before, also where
// the time of tokens, which never goes back, is ahead of the clock.
func TestEmergencyStopEndsTokensOfTheFuture(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	s.end()
	dir := dataDir(s.dir + "/data")
	db, err := store.Open(t.Context(), dir.database())
	if err != nil {
		t.Fatal(err)
	}
	ahead := time.Now().Add(time.Hour)
	err = db.Tokens().Update(t.Context(), func(tx token.Tx) error { return tx.SetClock(t.Context(), ahead) })
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s.start()
	issued, err := apiv1connect.NewTokenClient(s.http(), "http://sop").IssueToken(t.Context(), connect.NewRequest(&apiv1.IssueTokenRequest{
		Spec: &apiv1.TokenSpec{Type: "todo", Operations: []string{"op"}, Requester: "somebody"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	s.end()
	mark := halt.Mark{Dir: dir.emergency()}
	now := time.Now().UTC()
	if err := errors.Join(mark.Set(halt.State{At: now, By: "uid:0"}), mark.Lift(halt.Lift{At: now, By: "uid:0"})); err != nil {
		t.Fatal(err)
	}
	s.start()
	defer s.end()
	got, err := apiv1connect.NewTokenClient(s.http(), "http://sop").GetToken(t.Context(), connect.NewRequest(&apiv1.GetTokenRequest{
		Id: issued.Msg.GetToken().GetId(),
	}))
	if err != nil || got.Msg.GetToken().GetState() != "revoked" {
		t.Errorf("%v, %v", got, err)
	}
	if mark.Lifted() != nil {
		t.Error("the end of the stop is not on record")
	}
}
