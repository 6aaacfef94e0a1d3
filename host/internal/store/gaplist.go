package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/sdk"
)

// cursor is the last gap of a page; the next page begins after it.
type cursor struct {
	Severity gap.Severity `json:"s"`
	Path     string       `json:"p"`
	Line     int          `json:"l"`
	ID       string       `json:"i"`
}

func (c *cursor) token() (string, error) {
	text, err := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(text), err
}

func parseCursor(token string) (*cursor, error) {
	c := new(cursor)
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(text, c)
	}
	if err != nil {
		return nil, sdk.Errorf(codes.InvalidArgument, "PAGE_TOKEN", "page token is not one that was given out: %w", err).
			WithRemedy("list again from the first page")
	}
	return c, nil
}

// list returns one page.
func (r gapReader) list(ctx context.Context, f gap.Filter) (gap.Page, error) {
	if f.Limit <= 0 || f.Limit > gap.MaxPage {
		f.Limit = gap.MaxPage
	}
	q := query{dialect: r.db.dialect}
	q.add("severity >= ?", int64(f.Severity))
	for _, c := range []struct{ column, value string }{
		{"workspace", f.Workspace}, {"rule", f.Rule}, {"detector", f.Detector},
	} {
		if c.value != "" {
			q.add(" AND "+c.column+" = ?", c.value)
		}
	}
	if len(f.States) > 0 {
		q.add(" AND ")
		in(&q, "state", f.States)
	}
	if dir := strings.TrimSuffix(f.Path, "/"); dir != "" && dir != "." {
		q.add(" AND (path = ? OR path >= ? AND path < ?)", dir, dir+"/", dir+"0") // '0' follows '/'
	}
	if f.Token != "" {
		c, err := parseCursor(f.Token)
		if err != nil {
			return gap.Page{}, err
		}
		q.add(" AND (severity < ? OR severity = ? AND (path, line, id) > (?, ?, ?))",
			int64(c.Severity), int64(c.Severity), c.Path, int64(c.Line), c.ID)
	}
	q.add(" ORDER BY severity DESC, path, line, id LIMIT ?", int64(f.Limit)+1)
	gaps, err := r.gaps(ctx, q.text.String(), q.args...)
	if err != nil || len(gaps) <= f.Limit {
		return gap.Page{Gaps: gaps}, err
	}
	gaps = gaps[:f.Limit]
	last := gaps[f.Limit-1]
	next, err := (&cursor{last.Severity, last.Path, last.Line, last.ID}).token()
	return gap.Page{Gaps: gaps, Next: next}, err
}
