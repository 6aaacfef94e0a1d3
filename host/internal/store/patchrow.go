package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sop-host/sop/host/internal/patch"
)

// Columns of patches: those that never change, those that do, and those that
// lists do without. They are in the order of patchValues and scanPatch.
const (
	patchFixed   = `id, task, workspace, title, proposer, hash, base, changes, files, bytes, evidence, supersedes, created_at`
	patchMoving  = `approval, risks, verdict, passed, approvals, state, reason, superseded_by, token, backup, done, changed_at, integrated_at, dropped, version`
	patchColumns = patchFixed + ", " + patchMoving
)

// patchShort are the columns with nothing in place of long documents.
var patchShort = strings.NewReplacer(" changes,", " '',", " evidence,", " '',", " verdict,", " '',").Replace(patchColumns)

var (
	putPatch        = bulk{"patches (" + patchColumns + ", proposal_key)", strings.Count(patchColumns, ",") + 2, ""}
	putPatchChange  = bulk{"patch_history (patch_id, action, at, from_state, to_state, by_whom, why, token)", 8, ""}
	putPatchContent = bulk{"patch_contents (patch_id, hash, size)", 3, ""}
)

func patchValues(args []any, p *patch.Patch) []any {
	args = append(
		args, p.ID, p.Task, p.Workspace, p.Title, p.Proposer, p.Hash, p.Base, document(p.Set), int64(p.Files), p.Bytes,
		string(p.Evidence), p.Supersedes, p.CreatedAt.UnixNano(),
	)
	return append(args, patchMovingValues(p)...)
}

func patchMovingValues(p *patch.Patch) []any {
	risks := make([]string, len(p.Risks))
	for i, r := range p.Risks {
		risks[i] = string(r)
	}
	approvals := ""
	if len(p.Approvals) > 0 {
		approvals = document(p.Approvals)
	}
	return []any{
		string(p.Rule), words(risks), string(p.Verdict), p.Passed, approvals, string(p.State), p.Reason, p.SupersededBy, p.Token, p.Backup, document(p.Done),
		p.ChangedAt.UnixNano(), nanoOrNull(p.IntegratedAt), p.Dropped, p.Version,
	}
}

// document is a value of ours as JSON.
func document(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts, numbers and times always have a form
	}
	return string(text)
}

func scanPatch(scan func(...any) error) (*patch.Patch, error) {
	p := new(patch.Patch)
	var changes, evidence, risks, verdict, approvals, done string
	var created, changed int64
	var integrated sql.NullInt64
	err := scan(
		&p.ID, &p.Task, &p.Workspace, &p.Title, &p.Proposer, &p.Hash, &p.Base, &changes, &p.Files, &p.Bytes, &evidence, &p.Supersedes, &created,
		&p.Rule, &risks, &verdict, &p.Passed, &approvals, &p.State, &p.Reason, &p.SupersededBy, &p.Token, &p.Backup, &done, &changed, &integrated, &p.Dropped, &p.Version,
	)
	if err != nil {
		return nil, err
	}
	p.CreatedAt, p.ChangedAt = fromNano(created), fromNano(changed)
	if integrated.Valid {
		p.IntegratedAt = fromNano(integrated.Int64)
	}
	p.Evidence, p.Verdict = rawOrNil(evidence), rawOrNil(verdict)
	all, err := readWords(risks)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		p.Risks = append(p.Risks, patch.Risk(r))
	}
	for _, d := range []struct {
		text string
		into any
	}{{changes, &p.Set}, {approvals, &p.Approvals}, {done, &p.Done}} {
		if d.text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(d.text), d.into); err != nil {
			return nil, fmt.Errorf("patch in the database: %w", err)
		}
	}
	return p, nil
}

func rawOrNil(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

func patchChangeValues(args []any, c patch.Change) []any {
	return append(args, c.PatchID, string(c.Action), c.At.UnixNano(), string(c.From), string(c.To), c.By, c.Why, c.Token)
}
