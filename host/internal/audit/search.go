package audit

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// place is where a list over the store and the archives goes on: beyond the
// record seq, in the store or in an archive.
type place struct {
	archive bool
	seq     uint64
	token   string // of the store, where the latest come first
}

func (p place) String() string {
	kind := "s"
	if p.archive {
		kind = "a"
	}
	return kind + strconv.FormatUint(p.seq, 36) + "." + p.token
}

func parsePlace(text string) (p place, err error) {
	head, token, ok := strings.Cut(text, ".")
	if !ok || head == "" || head[0] != 'a' && head[0] != 's' {
		err = strconv.ErrSyntax
	} else {
		p.archive, p.token = head[0] == 'a', token
		p.seq, err = strconv.ParseUint(head[1:], 36, 64)
	}
	if err != nil {
		return p, sdk.Errorf(codes.InvalidArgument, "PAGE_TOKEN", "page token is not one that was given out: %w", err).
			WithRemedy("list again from the first page")
	}
	return p, nil
}

// list is [Store.List] over the store and the archives. A page is from one place:
// from the store, or from one archive, which is read as a whole.
func (t Trail) list(ctx context.Context, f Filter) (Page, error) {
	if f.Limit <= 0 || f.Limit > MaxPage {
		f.Limit = MaxPage
	}
	at := place{archive: f.Oldest, seq: f.After}
	if f.Token != "" {
		var err error
		if at, err = parsePlace(f.Token); err != nil {
			return Page{}, err
		}
	}
	segments, err := t.Store.Archived(ctx)
	if err != nil {
		return Page{}, err
	}
	from := t.listLatest
	if f.Oldest {
		from = t.listOldest
	}
	page, err := from(ctx, f, at, segments)
	page.Total = 0
	if err == nil && f.Token == "" {
		page.Total, err = t.total(ctx, &f, &page)
	}
	return page, err
}

// total is how many records there are for a filter, where that is known without
// looking at them; else 0.
func (t Trail) total(ctx context.Context, f *Filter, first *Page) (int64, error) {
	switch {
	case first.Next == "":
		return int64(len(first.Records)), nil
	case !f.Everything():
		return 0, nil
	}
	head, err := t.Store.Head(ctx)
	return max(0, int64(head.Size)-int64(f.After)), err
}

func (t Trail) listOldest(ctx context.Context, f Filter, at place, segments []Segment) (Page, error) {
	f.After = max(f.After, at.seq)
	// Also what was archived since the page before.
	i, _ := slices.BinarySearchFunc(segments, f.After+1, func(s Segment, seq uint64) int { return cmp.Compare(s.Last, seq) })
	if i == len(segments) {
		f.Token = ""
		page, err := t.Store.List(ctx, f)
		if err == nil && page.Next != "" {
			page.Next = place{seq: page.Records[len(page.Records)-1].Seq}.String()
		}
		return page, err
	}
	var page Page
	for r, err := range t.matching(ctx, &f, &segments[i]) {
		if err != nil {
			return Page{}, err
		}
		if len(page.Records) == f.Limit {
			page.Next = place{archive: true, seq: page.Records[f.Limit-1].Seq}.String()
			return page, nil
		}
		page.Records = append(page.Records, r)
	}
	page.Next = place{archive: true, seq: segments[i].Last}.String()
	return page, nil
}

func (t Trail) listLatest(ctx context.Context, f Filter, at place, segments []Segment) (Page, error) {
	if !at.archive {
		f.Token = at.token
		page, err := t.Store.List(ctx, f)
		if err != nil {
			return Page{}, err
		}
		last := at.seq // of the records that were listed; 0: none was
		if n := len(page.Records); n > 0 {
			last = page.Records[n-1].Seq
		}
		switch n := len(segments); {
		case page.Next != "":
			page.Next = place{seq: last, token: page.Next}.String()
		case n > 0 && segments[n-1].Last > f.After:
			next := segments[n-1].Last + 1
			if f.Token != "" || len(page.Records) > 0 {
				next = min(next, last) // what was archived since is not listed again
			}
			page.Next = place{archive: true, seq: next}.String()
		}
		return page, nil
	}
	i, _ := slices.BinarySearchFunc(segments, at.seq, func(s Segment, seq uint64) int { return cmp.Compare(s.First, seq) })
	if i--; i < 0 || segments[i].Last <= f.After {
		return Page{}, nil
	}
	var page Page
	left := false // some before those of the page
	for r, err := range t.matching(ctx, &f, &segments[i]) {
		if err != nil {
			return Page{}, err
		}
		if r.Seq >= at.seq {
			break
		}
		if page.Records = append(page.Records, r); len(page.Records) > f.Limit {
			page.Records, left = page.Records[1:], true
		}
	}
	slices.Reverse(page.Records)
	switch {
	case left:
		page.Next = place{archive: true, seq: page.Records[f.Limit-1].Seq}.String()
	case i > 0 && segments[i-1].Last > f.After:
		page.Next = place{archive: true, seq: segments[i].First}.String()
	}
	return page, nil
}

// matching returns what of a segment passes the filter, in order.
func (t Trail) matching(ctx context.Context, f *Filter, s *Segment) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		next := max(s.First, f.After+1)
		t.fromSegment(s, &next, func(r *Record, err error) bool {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, err)
				return false
			}
			return !f.Match(r) || !f.Where.Match(r.Field) || yield(r, nil)
		})
	}
}
