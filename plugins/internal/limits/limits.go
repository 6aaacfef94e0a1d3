// Package limits is how much and how long backup plugins keep: sizes as they are
// written in a configuration, and the rule of retention. Only plugins import it.
package limits

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sop-host/sop/sdk"
)

// Invalid is what is wrong with one attribute.
func Invalid(attribute, detail, format string, args ...any) error {
	return &sdk.ConfigError{Attribute: attribute, Summary: fmt.Sprintf(format, args...), Detail: detail}
}

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}}

// Size reads a number of bytes such as "5GiB".
func Size(attribute, text string) (int64, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err == nil && n >= 0 && n < (1<<62)/u.bytes {
			return n * u.bytes, nil
		}
	}
	return 0, Invalid(attribute, "Write a whole number of bytes with its unit, such as 500MiB or 5GiB.", "%q is no size", text)
}

// Time reads a span of time such as "720h".
func Time(attribute, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, Invalid(attribute, "Write a time such as 720h.", "%q is no time", text)
	}
	return d, nil
}

// Retention is the rule that says what is kept.
type Retention struct {
	KeepLast   int
	KeepWithin time.Duration
	// GroupBy are the labels whose values, with the root, make a set.
	GroupBy []string
}

// Candidate is a snapshot as retention sees it.
type Candidate struct {
	ID      string
	Created time.Time
	Pinned  bool
	// Good says that nothing failed and nothing is missing.
	Good   bool
	Root   string // bytes, as on disk
	Labels map[string]string
}

// Expired are the candidates, oldest first, that are not kept. A snapshot from
// the future is young: a clock that was wrong deletes nothing.
func (r Retention) Expired(all []Candidate, now time.Time) (ids []string) {
	if r.KeepLast == 0 && r.KeepWithin == 0 {
		return nil
	}
	good := make(map[string]bool) // sets of which a good one was seen
	for i, c := range slices.Backward(all) {
		key := r.set(c)
		lastGood := c.Good && !good[key]
		good[key] = good[key] || c.Good
		recent := len(all)-i <= r.KeepLast
		young := r.KeepWithin > 0 && now.Sub(c.Created) < r.KeepWithin
		if !c.Pinned && !lastGood && !recent && !young {
			ids = append(ids, c.ID)
		}
	}
	slices.Reverse(ids)
	return ids
}

// set is the key of the set that a snapshot belongs to.
func (r Retention) set(c Candidate) string {
	parts := [][]byte{[]byte(c.Root)}
	for _, name := range r.GroupBy {
		parts = append(parts, []byte(c.Labels[name]))
	}
	key, _ := json.Marshal(parts) // bytes always can be
	return string(key)
}
