package limits

import (
	"slices"
	"testing"
	"time"
)

func TestRetention(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	days := func(n int) time.Time { return now.AddDate(0, 0, -n) }
	all := []Candidate{
		{ID: "pinned", Created: days(90), Pinned: true, Good: true},
		{ID: "old", Created: days(80), Good: true},
		{ID: "last good of b", Created: days(70), Good: true, Labels: map[string]string{"workspace": "b"}},
		{ID: "bad of b", Created: days(60), Labels: map[string]string{"workspace": "b"}},
		{ID: "other root", Created: days(55), Good: true, Root: "/other"},
		{ID: "aged", Created: days(50), Good: true, Labels: map[string]string{"task": "not what groups"}},
		{ID: "young", Created: days(5), Good: true},
		{ID: "future", Created: days(-400), Good: true},
		{ID: "bad", Created: days(45)},
	}
	for name, tc := range map[string]struct {
		last int
		days int
		now  time.Time
		want []string
	}{
		"age":               {0, 30, now, []string{"old", "bad of b", "aged", "bad"}},
		"number":            {4, 0, now, []string{"old", "bad of b"}},
		"both":              {2, 30, now, []string{"old", "bad of b", "aged"}},
		"none":              {0, 0, now, nil},
		"clock a year on":   {3, 30, now.AddDate(1, 0, 0), []string{"old", "bad of b", "aged"}},
		"clock a year back": {0, 30, now.AddDate(-1, 0, 0), nil},
	} {
		r := Retention{KeepLast: tc.last, KeepWithin: time.Duration(tc.days) * 24 * time.Hour, GroupBy: []string{"workspace"}}
		if got := r.Expired(all, tc.now); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q expire, want %q", name, got, tc.want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"0B": 0, "500MiB": 500 << 20, "5 GiB": 5 << 30, "1TiB": 1 << 40} {
		if got, err := Size("x", text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "-1B", "5GB", "9999999999TiB", "1.5GiB"} {
		if got, err := Size("x", text); err == nil {
			t.Errorf("%q: accepted as %d", text, got)
		}
	}
}
