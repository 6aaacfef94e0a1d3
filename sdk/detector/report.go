package detector

import (
	"sync"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// batchSize is how many entries are gathered before a response is sent.
const batchSize = 256

// reporter gathers what a scan reports and sends it in batches. A failed send
// is kept and returned by finish; the stream's context has ended the scan by
// then.
type reporter struct {
	mu      sync.Mutex
	send    func(*pluginv1.ScanResponse) error
	batch   *pluginv1.ScanResponse
	size    int
	total   int64
	summary *pluginv1.ScanSummary
	err     error
}

func newReporter(send func(*pluginv1.ScanResponse) error, total int) *reporter {
	return &reporter{
		send: send, batch: &pluginv1.ScanResponse{}, total: int64(total),
		summary: &pluginv1.ScanSummary{Skipped: make(map[string]int64)},
	}
}

func (r *reporter) add(fill func(*pluginv1.ScanResponse)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fill(r.batch)
	if r.size++; r.size >= batchSize {
		r.batch.Progress = &pluginv1.ScanProgress{FilesDone: r.summary.GetFilesExamined(), FilesTotal: r.total}
		r.flush()
	}
}

// flush sends the batch; r.mu is held.
func (r *reporter) flush() {
	if r.err == nil {
		r.err = r.send(r.batch)
	}
	r.batch, r.size = &pluginv1.ScanResponse{}, 0
}

func (r *reporter) finding(f *pluginv1.Finding) {
	r.add(func(b *pluginv1.ScanResponse) { b.Findings = append(b.Findings, f) })
}

func (r *reporter) cover(path string) {
	r.add(func(b *pluginv1.ScanResponse) { b.Covered = append(b.Covered, path) })
}

func (r *reporter) diagnose(d *pluginv1.ScanDiagnostic) {
	r.add(func(b *pluginv1.ScanResponse) { b.Diagnostics = append(b.Diagnostics, d) })
}

func (r *reporter) skip(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summary.Skipped[reason]++
}

func (r *reporter) examined() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summary.FilesExamined++
}

// finish sends what is left with the summary.
func (r *reporter) finish() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batch.Summary = r.summary
	r.flush()
	return r.err
}
