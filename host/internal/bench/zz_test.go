package bench

import (
	"testing"
	"time"
)

func TestZZIssue(t *testing.T) {
	wanted(t)
	asHost(t)
	v := newVault(t, nil)
	p := measure(t, crowd, 5*time.Second, v.issue)
	t.Logf("%.0f/s", p.rate)
}
