// Command scp stands for the cognition protocol of the stack: an HTTP service that
// keeps a small knowledge base in a file, and recalls from it by terms. It imports
// nothing of SOP; protocol-http joins it.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
)

func main() {
	address := flag.String("listen", "unix:scp.sock", "`address` to serve on: unix:PATH, or HOST:PORT")
	file := flag.String("file", "scp.json", "`file` to keep what is known in")
	flag.Parse()
	if err := run(*address, *file); err != nil {
		fmt.Fprintln(os.Stderr, "scp:", err)
		os.Exit(1)
	}
}

func run(address, file string) error {
	known, err := open(file)
	if err != nil {
		return err
	}
	listener, err := listen(address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: known.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // what is cut off shows at the caller
	})
	fmt.Println("scp serves on", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listen takes a socket over that nobody serves any more: whoever was killed leaves
// it behind.
func listen(address string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return net.Listen("tcp", address)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("somebody serves at %s already", path), conn.Close())
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return net.Listen("unix", path)
}

// fact is one thing that is known.
type fact struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// knowledge is all that is known, by subject.
type knowledge struct {
	file  string
	mu    sync.RWMutex
	facts map[string]string
}

const (
	maxFacts = 10_000
	maxBody  = 1 << 20
)

func open(file string) (*knowledge, error) {
	k := &knowledge{file: file, facts: make(map[string]string)}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &k.facts); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return k, nil
}

func (k *knowledge) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /learn", serve(k.learn))
	mux.HandleFunc("POST /recall", serve(k.recall))
	return mux
}

// serve reads a request, and writes its answer or its error.
func serve[In, Out any](do func(In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
			refuse(w, http.StatusBadRequest, "SCP_PAYLOAD", err)
			return
		}
		out, err := do(in)
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, "SCP_REFUSED", err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // who has gone is not told
	}
}

func refuse(w http.ResponseWriter, status int, reason string, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"reason": reason, "message": err.Error()}}) // likewise
}

type learned struct {
	Known int `json:"known"`
}

// learn takes facts in, durably; one about a subject that is known replaces it.
func (k *knowledge) learn(in struct{ Facts []fact }) (learned, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := maps.Clone(k.facts)
	for _, f := range in.Facts {
		if f.Subject == "" || f.Text == "" {
			return learned{}, errors.New("a fact has a subject and a text")
		}
		next[f.Subject] = f.Text
	}
	if len(next) > maxFacts {
		return learned{}, fmt.Errorf("more than %d facts", maxFacts)
	}
	if err := k.store(next); err != nil {
		return learned{}, err
	}
	k.facts = next
	return learned{len(next)}, nil
}

// store replaces the file.
func (k *knowledge) store(facts map[string]string) error {
	text, err := json.MarshalIndent(facts, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(".", ".scp-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has been renamed, unless something failed
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), k.file)
}

type recalled struct {
	fact
	Score int `json:"score"`
}

type memory struct {
	Facts []recalled `json:"facts"`
	Known int        `json:"known"`
}

// recall returns the facts that have most of the terms, best first.
func (k *knowledge) recall(in struct {
	Terms []string
	Limit int
},
) (memory, error) {
	if in.Limit <= 0 || in.Limit > 100 {
		in.Limit = 10
	}
	var terms []string
	for _, t := range in.Terms {
		terms = append(terms, words(t)...)
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := memory{Facts: []recalled{}, Known: len(k.facts)}
	for subject, text := range k.facts {
		score := 0
		have := words(subject + " " + text)
		for _, t := range terms {
			if slices.Contains(have, t) {
				score++
			}
		}
		if score > 0 {
			out.Facts = append(out.Facts, recalled{fact{subject, text}, score})
		}
	}
	slices.SortFunc(out.Facts, func(a, b recalled) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Subject, b.Subject))
	})
	if len(out.Facts) > in.Limit {
		out.Facts = out.Facts[:in.Limit]
	}
	return out, nil
}

func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}
