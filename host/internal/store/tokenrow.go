package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/token"
)

// tokenColumns are the columns of tokens in the order of tokenValues and
// scanToken.
const tokenColumns = `id, accessor, hash, type, state, reason, protocol, operations, requester, task, paths, workspace,` +
	`issued_by, parent, depth, created_at, not_before, expires_at, max_life, changed_at, last_use, max_uses, uses, reserved, version`

var (
	putToken       = bulk{"tokens (" + tokenColumns + ")", strings.Count(tokenColumns, ",") + 1, " ON CONFLICT (id) DO UPDATE SET " + excluded(tokenColumns)}
	putTokenAnswer = bulk{
		"token_answers (token_id, key, at, request, answer)", 5,
		" ON CONFLICT (token_id, key) DO UPDATE SET at = excluded.at, request = excluded.request, answer = excluded.answer",
	}
)

func tokenValues(args []any, t *token.Token) []any {
	var used any
	if !t.LastUse.IsZero() {
		used = t.LastUse.UnixNano()
	}
	return append(
		args, t.ID, t.Accessor, t.Hash, string(t.Type), string(t.State), t.Reason, t.Protocol, words(t.Operations),
		t.Requester, t.Task, words(t.Paths), t.Workspace, t.IssuedBy, t.Parent, int64(t.Depth),
		t.CreatedAt.UnixNano(), t.NotBefore.UnixNano(), t.ExpiresAt.UnixNano(), int64(t.MaxLife), t.ChangedAt.UnixNano(), used,
		int64(t.MaxUses), int64(t.Uses), int64(t.Reserved), t.Version,
	)
}

func scanToken(scan func(...any) error) (*token.Token, error) {
	t := new(token.Token)
	var operations, paths string
	var created, start, end, life, changed int64
	var used sql.NullInt64
	err := scan(
		&t.ID, &t.Accessor, &t.Hash, &t.Type, &t.State, &t.Reason, &t.Protocol, &operations,
		&t.Requester, &t.Task, &paths, &t.Workspace, &t.IssuedBy, &t.Parent, &t.Depth,
		&created, &start, &end, &life, &changed, &used,
		&t.MaxUses, &t.Uses, &t.Reserved, &t.Version,
	)
	if err != nil {
		return nil, err
	}
	t.CreatedAt, t.NotBefore, t.ExpiresAt, t.ChangedAt = fromNano(created), fromNano(start), fromNano(end), fromNano(changed)
	t.MaxLife = time.Duration(life)
	if used.Valid {
		t.LastUse = fromNano(used.Int64)
	}
	if t.Operations, err = readWords(operations); err != nil {
		return nil, err
	}
	t.Paths, err = readWords(paths)
	return t, err
}

func answerValues(args []any, p pendingAnswer) []any {
	text, err := json.Marshal(&p.answer.Use)
	if err != nil {
		panic(err) // texts, numbers and times of this host's clock always have a form
	}
	return append(args, p.id, p.key, p.answer.At.UnixNano(), p.answer.Request, string(text))
}

// words stores a list; nil is the empty text.
func words(all []string) string {
	if len(all) == 0 {
		return ""
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings always have a form
	}
	return string(text)
}

func readWords(text string) (all []string, err error) {
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("list in the database: %w", err)
	}
	return all, nil
}
