// Command arp stands for the reasoning protocol of the stack: it reads requests
// from standard input, one JSON text a line, and writes answers to standard
// output. It imports nothing of SOP; protocol-exec joins it.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

type request struct {
	ID        string          `json:"id"`
	Operation string          `json:"operation"`
	Payload   json.RawMessage `json:"payload"`
}

type failure struct {
	Code    string `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

type answer struct {
	ID     string   `json:"id"`
	Result any      `json:"result,omitempty"`
	Error  *failure `json:"error,omitempty"`
}

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "arp:", err)
		os.Exit(1)
	}
}

// serve answers requests, each on its own, until there are no more.
func serve(in io.Reader, out io.Writer) error {
	var working sync.WaitGroup
	defer working.Wait()
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	for decoder := json.NewDecoder(bufio.NewReader(in)); ; {
		var r request
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		working.Go(func() {
			a := handle(&r)
			mu.Lock()
			defer mu.Unlock()
			if err := encoder.Encode(a); err != nil {
				fmt.Fprintln(os.Stderr, "arp: write answer:", err)
			}
		})
	}
}

func handle(r *request) answer {
	if r.Operation != "analyze" {
		return answer{ID: r.ID, Error: &failure{Code: "UNIMPLEMENTED", Reason: "ARP_OPERATION", Message: fmt.Sprintf("there is no operation %q", r.Operation), Remedy: "analyze is what it does"}}
	}
	var in struct {
		Gaps []gap `json:"gaps"`
	}
	if err := json.Unmarshal(r.Payload, &in); err != nil {
		return answer{ID: r.ID, Error: &failure{Code: "INVALID_ARGUMENT", Reason: "ARP_GAPS", Message: "the payload holds no gaps: " + err.Error(), Remedy: `send {"gaps": [{"id": …, "severity": …, "path": …, "rule": …}]}`}}
	}
	return answer{ID: r.ID, Result: analyze(in.Gaps)}
}

type gap struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Path     string `json:"path"`
	Rule     string `json:"rule"`
}

// step is what to do at one place, about all gaps of one rule there.
type step struct {
	Rank  int      `json:"rank"`
	Path  string   `json:"path"`
	Rule  string   `json:"rule"`
	Gaps  []string `json:"gaps"`
	Score int      `json:"score"`
	Why   string   `json:"why"`
}

type plan struct {
	Plan  []step `json:"plan"`
	Total int    `json:"total"`
	Score int    `json:"score"`
}

var weights = map[string]int{"critical": 16, "high": 8, "medium": 4, "low": 2, "info": 1}

// analyze groups gaps by place and rule, and ranks the groups: what weighs most
// comes first, and of two that weigh the same the smaller one.
func analyze(gaps []gap) plan {
	groups := make(map[[2]string]*step)
	out := plan{Plan: []step{}, Total: len(gaps)}
	for _, g := range gaps {
		key := [2]string{g.Path, g.Rule}
		s := groups[key]
		if s == nil {
			s = &step{Path: g.Path, Rule: g.Rule}
			groups[key] = s
		}
		s.Gaps = append(s.Gaps, g.ID)
		weight := weights[g.Severity]
		if weight == 0 {
			weight = 1
		}
		s.Score += weight
		out.Score += weight
	}
	for _, s := range groups {
		slices.Sort(s.Gaps)
		s.Why = fmt.Sprintf("%d of weight %d, one change of %s closes them", len(s.Gaps), s.Score, s.Path)
		out.Plan = append(out.Plan, *s)
	}
	slices.SortFunc(out.Plan, func(a, b step) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(len(a.Gaps), len(b.Gaps)), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Rule, b.Rule))
	})
	for i := range out.Plan {
		out.Plan[i].Rank = i + 1
	}
	return out
}
