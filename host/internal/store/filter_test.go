package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
)

// words are what values and patterns are made of: what means something to SQL
// and to patterns among them.
var words = rapid.SampledFrom([]string{
	"a", "b", "A", "ab", "aab", "*", "?", "[", "[a]", "]", "%", "_", "'", `"`, `\`, "/", "a/b", "a/", ".", "ü", "--", ";", "$1", "a b", "docs.x", "",
})

func text(t *rapid.T, label string) string {
	return strings.Join(rapid.SliceOfN(words, 0, 3).Draw(t, label), "")
}

// literal writes a value as it stands in a filter; stars stay patterns.
func literal(s string, patterns bool) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
	if !patterns {
		s = strings.ReplaceAll(s, "*", `\*`)
	}
	return `"` + s + `"`
}

func condition(t *rapid.T, schema filter.Schema) string {
	f := rapid.SampledFrom([]filter.Field(schema)).Draw(t, "field")
	compare := rapid.SampledFrom([]string{"=", "!=", "<", "<=", ">", ">="}).Draw(t, "op")
	switch f.Kind {
	case filter.Word:
		return f.Name + rapid.SampledFrom([]string{"=", "!="}).Draw(t, "op") + rapid.SampledFrom(f.Words).Draw(t, "word")
	case filter.Ranked:
		return f.Name + " " + compare + " " + rapid.SampledFrom(f.Words).Draw(t, "word")
	case filter.Number:
		return fmt.Sprint(f.Name, compare, rapid.IntRange(0, 3).Draw(t, "number"))
	case filter.Time:
		at := time.Unix(int64(rapid.IntRange(0, 3).Draw(t, "time")), 0).UTC()
		return f.Name + compare + `"` + at.Format(time.RFC3339) + `"`
	case filter.List:
		return f.Name + " : " + literal(text(t, "text"), rapid.Bool().Draw(t, "pattern"))
	}
	op := rapid.SampledFrom([]string{"=", "!=", ":"}).Draw(t, "op")
	return f.Name + " " + op + " " + literal(text(t, "text"), op != ":" && rapid.Bool().Draw(t, "pattern"))
}

func expression(t *rapid.T, schema filter.Schema, depth int) string {
	if depth == 0 || rapid.Bool().Draw(t, "leaf") {
		return condition(t, schema)
	}
	switch rapid.IntRange(0, 2).Draw(t, "joint") {
	case 0:
		return "NOT (" + expression(t, schema, depth-1) + ")"
	case 1:
		return "(" + expression(t, schema, depth-1) + " AND " + expression(t, schema, depth-1) + ")"
	}
	return "(" + expression(t, schema, depth-1) + " OR " + expression(t, schema, depth-1) + ")"
}

func orderOf(t *rapid.T, schema filter.Schema) []filter.Key {
	var parts []string
	for _, f := range rapid.Permutation([]filter.Field(schema)).Draw(t, "order")[:rapid.IntRange(0, 3).Draw(t, "keys")] {
		if f.Kind != filter.List {
			parts = append(parts, f.Name+rapid.SampledFrom([]string{"", " desc", " asc"}).Draw(t, "way"))
		}
	}
	keys, err := filter.ParseOrder(strings.Join(parts, ","), schema)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// What SQL lets pass, in its order and page by page, is what memory does.
func TestFilterIsTheSameInSQL(t *testing.T) {
	db, err := store.OpenMemory(t.Context())
	db = closeLater(t, db, err)
	round := 0 // each has rows of its own
	t.Run("Gaps", rapid.MakeCheck(func(t *rapid.T) {
		round++
		own := fmt.Sprintf("round %d", round)
		var gaps []*gap.Gap
		for i := range rapid.IntRange(0, 12).Draw(t, "gaps") {
			g := &gap.Gap{
				ID: fmt.Sprintf("%s.%d", own, i), Fingerprint: "f" + text(t, "f"), Workspace: own, Rule: text(t, "rule"), Type: gap.Type(text(t, "type")),
				Severity: gap.Severity(rapid.IntRange(1, 5).Draw(t, "severity")), Confidence: gap.Confidence(rapid.IntRange(1, 3).Draw(t, "confidence")),
				Location: gap.Location{Path: text(t, "path"), Line: rapid.IntRange(0, 3).Draw(t, "line")}, Message: text(t, "message"), Detector: text(t, "d"),
				State: rapid.SampledFrom(gap.States()).Draw(t, "state"), FirstSeen: time.Unix(1, 0).UTC(), LastSeen: time.Unix(int64(i%4), 0).UTC(),
			}
			if rapid.Bool().Draw(t, "resolved") {
				at := time.Unix(int64(rapid.IntRange(0, 3).Draw(t, "at")), 0).UTC()
				g.ResolvedAt = &at
			}
			gaps = append(gaps, g)
		}
		if err := db.Gaps().Update(context.Background(), func(tx gap.Tx) error { return tx.Put(context.Background(), gaps, nil) }); err != nil {
			t.Fatal(err)
		}
		f := gap.Filter{Workspace: own, Limit: rapid.IntRange(1, 5).Draw(t, "limit"), Order: orderOf(t, gap.ListFields)}
		input := expression(t, gap.ListFields, 3)
		if f.Where, err = filter.Parse(input, gap.ListFields); err != nil {
			t.Fatalf("%s: %v", input, err)
		}
		usual, _ := filter.ParseOrder("severity desc, path, line, id", gap.ListFields)
		var want, got []string
		slices.SortFunc(gaps, func(x, y *gap.Gap) int {
			keys := f.Order
			if keys == nil {
				keys = usual
			}
			if order := filter.Compare(keys, x.Field, y.Field); order != 0 {
				return order
			}
			return strings.Compare(x.ID, y.ID)
		})
		for _, g := range gaps {
			if f.Where.Match(g.Field) {
				want = append(want, g.ID)
			}
		}
		total := int64(-1)
		for {
			page, err := db.Gaps().List(context.Background(), f)
			if err != nil {
				t.Fatalf("%s: %v", input, err)
			}
			if total < 0 {
				total = page.Total
			}
			for _, g := range page.Gaps {
				got = append(got, g.ID)
			}
			if f.Token = page.Next; f.Token == "" {
				break
			}
		}
		if !slices.Equal(got, want) || total != int64(len(want)) {
			t.Fatalf("%s: %v of %d, want %v", input, got, total, want)
		}
	}))
	t.Run("Agents", rapid.MakeCheck(func(t *rapid.T) {
		round++
		own := fmt.Sprintf("round %d", round)
		now := time.Unix(2, 0).UTC()
		at := func() time.Time { return time.Unix(int64(rapid.IntRange(0, 4).Draw(t, "at")), 0).UTC() }
		var all []*agent.Agent
		for i := range rapid.IntRange(0, 10).Draw(t, "agents") {
			a := &agent.Agent{
				Name: fmt.Sprintf("%s.%d", own, i), Trust: rapid.SampledFrom(agent.Trusts()).Draw(t, "trust"), Groups: []string{own, text(t, "g")},
				State: rapid.SampledFrom([]agent.State{agent.StateActive, agent.StateRevoked}).Draw(t, "state"), Reason: text(t, "r"),
				CreatedAt: at(), CreatedBy: text(t, "by"), ChangedAt: at(),
			}
			if rapid.Bool().Draw(t, "ends") {
				a.ExpiresAt = at()
			}
			if rapid.Bool().Draw(t, "used") {
				a.LastUsed = at()
			}
			all = append(all, a)
		}
		err := db.Agents().Update(context.Background(), func(tx agent.Tx) error {
			for _, a := range all {
				if err := tx.Put(context.Background(), a, agent.Change{Name: a.Name, At: now}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		f := agent.Filter{Group: own, At: now, Limit: rapid.IntRange(1, 4).Draw(t, "limit"), Order: orderOf(t, agent.ListFields)}
		input := expression(t, agent.ListFields, 3)
		if f.Where, err = filter.Parse(input, agent.ListFields); err != nil {
			t.Fatalf("%s: %v", input, err)
		}
		var want, got []string
		for _, a := range all {
			a.State = a.At(now)
		}
		slices.SortFunc(all, func(x, y *agent.Agent) int {
			if order := filter.Compare(f.Order, x.Field, y.Field); order != 0 {
				return order
			}
			return strings.Compare(x.Name, y.Name)
		})
		for _, a := range all {
			if f.Where.Match(a.Field) {
				want = append(want, a.Name)
			}
		}
		for {
			page, err := db.Agents().List(context.Background(), f)
			if err != nil {
				t.Fatalf("%s: %v", input, err)
			}
			for _, a := range page.Agents {
				got = append(got, a.Name)
			}
			if f.Token = page.Next; f.Token == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %v, want %v", input, got, want)
		}
	}))
	t.Run("Tokens", rapid.MakeCheck(func(t *rapid.T) {
		round++
		own := fmt.Sprintf("round %d", round)
		now := time.Unix(2, 0).UTC()
		at := func() time.Time { return time.Unix(int64(rapid.IntRange(0, 4).Draw(t, "at")), 0).UTC() }
		var all []*token.Token
		for i := range rapid.IntRange(0, 10).Draw(t, "tokens") {
			tok := &token.Token{
				ID: fmt.Sprintf("%s.%d", own, i), Accessor: fmt.Sprintf("%s.%d", own, i), Hash: []byte{1}, Type: rapid.SampledFrom(token.Types()).Draw(t, "type"),
				State: rapid.SampledFrom(token.States()).Draw(t, "state"), Requester: own, Task: text(t, "task"), CreatedAt: at(), NotBefore: at(), ExpiresAt: at(),
				ChangedAt: at(), MaxUses: 3, Uses: rapid.IntRange(0, 2).Draw(t, "uses"), Operations: []string{text(t, "o"), text(t, "o")},
			}
			if rapid.Bool().Draw(t, "used") {
				tok.LastUse = at()
			}
			all = append(all, tok)
		}
		if err := db.Tokens().Update(context.Background(), func(tx token.Tx) error { return tx.Put(context.Background(), all, nil) }); err != nil {
			t.Fatal(err)
		}
		f := token.Filter{Requester: own, At: now, Limit: rapid.IntRange(1, 4).Draw(t, "limit"), Order: orderOf(t, token.ListFields)}
		input := expression(t, token.ListFields, 3)
		if f.Where, err = filter.Parse(input, token.ListFields); err != nil {
			t.Fatalf("%s: %v", input, err)
		}
		var want, got []string
		slices.SortFunc(all, func(x, y *token.Token) int {
			if order := filter.Compare(f.Order, x.At(now).Field, y.At(now).Field); order != 0 {
				return order
			}
			return strings.Compare(y.ID, x.ID)
		})
		for _, tok := range all {
			if f.Where.Match(tok.At(now).Field) {
				want = append(want, tok.ID)
			}
		}
		for {
			page, err := db.Tokens().List(context.Background(), f)
			if err != nil {
				t.Fatalf("%s: %v", input, err)
			}
			for _, tok := range page.Tokens {
				got = append(got, tok.ID)
			}
			if f.Token = page.Next; f.Token == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %v, want %v", input, got, want)
		}
	}))
}
