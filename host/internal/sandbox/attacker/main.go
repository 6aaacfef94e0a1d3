// Attacker tries to get out of a sandbox. The tests of package sandbox run it
// inside, where nothing may succeed, and outside, where enough must.
//
//	attacker try TARGETS NAME...   report on each, in a process of its own
//	attacker one TARGETS NAME      one attack; exit 0 when it succeeded
//	attacker bomb NAME             use up something
//	attacker fetch URL...          ask by way of the proxy of the environment
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Targets are things outside of the sandbox, told to the attacker so that it
// need not be lucky.
type Targets struct {
	Secret    string // a file that holds SecretText
	Outside   string // a directory that anybody may write to
	Mark      string // a name that is free in /tmp and elsewhere
	Workspace string // the real one
	Cache     string // a directory that anybody may write to
	TCP, UDP  string // addresses that are served
	Abstract  string // an abstract unix socket that is served
	Unix      string // a path that is served
	Victim    int    // a process of the same user
	Env       string // a variable with a secret
	FD        int    // a descriptor that is not the attacker's
}

// Report is what came of one attack.
type Report struct {
	Attack    string
	Succeeded bool
	Detail    string
}

func main() {
	switch {
	case len(os.Args) >= 3 && os.Args[1] == "try":
		try(os.Args[2], os.Args[3:])
	case len(os.Args) == 4 && os.Args[1] == "one":
		one(readTargets(os.Args[2]), os.Args[3])
	case len(os.Args) >= 3 && os.Args[1] == "bomb":
		bombs[os.Args[2]]()
	case len(os.Args) >= 3 && os.Args[1] == "fetch":
		fetch(os.Args[2:])
	default:
		fmt.Fprintln(os.Stderr, "usage: attacker try|one|bomb|fetch ...")
		os.Exit(2)
	}
}

func readTargets(path string) Targets {
	var t Targets
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return t
}

// try makes each attack in a process of its own, since some end in its death.
func try(targets string, names []string) {
	if len(names) == 0 {
		for name := range attacks {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	for _, name := range names {
		cmd := exec.Command(os.Args[0], "one", targets, name)
		cmd.WaitDelay = time.Second
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		out, err := cmd.CombinedOutput()
		timer.Stop()
		detail := strings.TrimSpace(string(out))
		if err != nil && detail == "" {
			detail = err.Error()
		}
		_ = json.NewEncoder(os.Stdout).Encode(Report{name, err == nil, detail})
	}
}

func one(t Targets, name string) {
	attack, known := attacks[name]
	if !known {
		fmt.Println("there is no such attack")
		os.Exit(3)
	}
	if err := attack(t); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
