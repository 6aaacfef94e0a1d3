package store

import (
	"context"
	"encoding/base64"

	"google.golang.org/grpc/codes"

	"github.com/google/uuid"

	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// stateAt is the state of a token at a time, recorded or not; it takes the time
// twice.
const stateAt = `CASE WHEN state IN ('pending', 'active') AND expires_at <= ? THEN 'expired'
	WHEN state = 'pending' AND not_before <= ? THEN 'active' ELSE state END`

// list returns one page. A page token is the id of the last token of the page
// before.
func (r tokenReader) list(ctx context.Context, f token.Filter) (token.Page, error) {
	if f.Limit <= 0 || f.Limit > token.MaxPage {
		f.Limit = token.MaxPage
	}
	q := query{dialect: r.db.dialect}
	q.add("id > ?", "")
	if f.Requester != "" {
		q.add(" AND requester = ?", f.Requester)
	}
	if f.Task != "" {
		q.add(" AND task = ? AND task <> ''", f.Task)
	}
	if len(f.Types) > 0 {
		q.add(" AND ")
		in(&q, "type", f.Types)
	}
	if len(f.States) > 0 {
		q.add(" AND "+stateAt+" ", f.At.UnixNano(), f.At.UnixNano())
		in(&q, "", f.States)
	}
	if f.Token != "" {
		last, err := readPageToken(f.Token)
		if err != nil {
			return token.Page{}, err
		}
		q.add(" AND id < ?", last)
	}
	q.add(" ORDER BY id DESC LIMIT ?", int64(f.Limit)+1)
	tokens, err := r.tokens(ctx, q.text.String(), q.args...)
	if err != nil || len(tokens) <= f.Limit {
		return token.Page{Tokens: tokens}, err
	}
	tokens = tokens[:f.Limit]
	last := tokens[f.Limit-1].ID
	return token.Page{Tokens: tokens, Next: base64.RawURLEncoding.EncodeToString([]byte(last))}, nil
}

func readPageToken(text string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = uuid.Validate(string(raw))
	}
	if err != nil {
		return "", sdk.Errorf(codes.InvalidArgument, "PAGE_TOKEN", "page token is not one that was given out: %w", err).
			WithRemedy("list again from the first page")
	}
	return string(raw), nil
}
