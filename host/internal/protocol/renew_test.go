package protocol

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// standing is how the token of arp stands: how often one was issued, handed over,
// and taken back.
func (w *world) standing() (issued, handed, ended int, mode pluginv1.Mode) {
	f := w.plugins["arp"]
	f.mu.Lock()
	handed, mode = f.activations, f.mode
	f.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.granted), handed, w.ended, mode
}

// What a protocol works under is replaced before it expires, for as long as it is in
// service, whether it is called or not; and no longer.
func TestTokenIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const week = 7 * 24 * time.Hour
		w := newWorld(t)
		w.life = week
		w.plugins["arp"] = &fakePlugin{}
		w.Apply([]Settings{usual("arp")})
		w.await("arp", StateActive)
		for n := range 10 {
			synctest.Wait()
			if issued, handed, ended, mode := w.standing(); issued != n+1 || handed != n+1 || ended != n || mode != pluginv1.Mode_MODE_ACTIVE {
				t.Fatalf("after %d renewals: %d issued, %d handed over, %d taken back, %s", n, issued, handed, ended, mode)
			}
			time.Sleep(week * 2 / 3)
		}
		synctest.Wait()
		if _, err := w.Deactivate(t.Context(), "arp", "uid:0", ""); err != nil {
			t.Fatal(err)
		}
		issued, _, ended, _ := w.standing()
		if issued != ended {
			t.Errorf("%d issued, %d taken back", issued, ended)
		}
		time.Sleep(2 * week)
		synctest.Wait()
		if after, _, _, _ := w.standing(); after != issued {
			t.Errorf("%d were issued to a protocol that is out of service", after-issued)
		}
	})
}

// A renewal that fails is tried again while the token that there is holds; a protocol
// that does not take its new token is taken into service anew.
func TestRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		w := newWorld(t)
		w.life = 3 * day
		w.plugins["arp"] = &fakePlugin{}
		w.Apply([]Settings{usual("arp")})
		w.await("arp", StateActive)
		refuse := func(err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.refuse = err
		}
		refuse(errors.New("no tokens now"))
		time.Sleep(2*day + time.Hour)
		synctest.Wait()
		if _, handed, ended, _ := w.standing(); handed != 1 || ended != 0 {
			t.Errorf("%d handed over, %d taken back", handed, ended)
		}
		if got, err := w.ask("arp", "1"); err != nil || string(got) != "1" {
			t.Errorf("it does not work on: %s, %v", got, err)
		}
		refuse(nil)
		time.Sleep(renewRetry)
		synctest.Wait()
		if _, handed, ended, _ := w.standing(); handed != 2 || ended != 1 {
			t.Errorf("later: %d handed over, %d taken back", handed, ended)
		}
		w.plugins["arp"].failWith(errors.New("not now"))
		time.Sleep(2 * day)
		synctest.Wait()
		w.await("arp", StateFailed)
		w.plugins["arp"].failWith(nil)
		w.await("arp", StateActive)
		if _, err := w.ask("arp", "1"); err != nil {
			t.Error(err)
		}
	})
}
