package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// v1Controllers are those that a group is made in; freezer serves to kill,
// cpuacct to measure.
var v1Controllers = []string{"memory", "pids", "cpu", "cpuacct", "freezer"}

// hierarchy is one cgroup hierarchy as this process sees it.
type hierarchy struct {
	v2          bool
	controllers []string // of v1Controllers, as mounted; v2 tells apart: see enable
	mount       string   // where it is mounted
	own         string   // directory of this process's cgroup
	base        string   // directory in which the tree's parent is made
}

// discover reads from proc (/proc) which hierarchies there are and where this
// process is in them. reasons says, by controller or "" for v2, why it is not
// among them.
func discover(proc string) (found []hierarchy, reasons map[string]error, err error) {
	memberships, err := os.ReadFile(filepath.Join(proc, "self", "cgroup"))
	if err != nil {
		return nil, nil, err
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "self", "mountinfo"))
	if err != nil {
		return nil, nil, err
	}
	found, reasons = match(parseMemberships(string(memberships)), parseMounts(string(mounts)))
	return found, reasons, nil
}

// parseMemberships reads /proc/self/cgroup: the path of this process's cgroup
// by controller, "" for v2.
func parseMemberships(text string) map[string]string {
	paths := make(map[string]string)
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for name := range strings.SplitSeq(fields[1], ",") {
			if name != "" || fields[0] == "0" {
				paths[name] = fields[2]
			}
		}
	}
	return paths
}

// cgroupMount is a mounted hierarchy.
type cgroupMount struct {
	v2      bool
	root    string   // the cgroup that is mounted
	point   string   // where
	options []string // of the file system: a v1 hierarchy's controllers are among them
}

// parseMounts reads the cgroup file systems in /proc/self/mountinfo.
func parseMounts(text string) []cgroupMount {
	var mounts []cgroupMount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if !ok || len(where) < 6 || len(what) < 3 || (what[0] != "cgroup" && what[0] != "cgroup2") {
			continue
		}
		mounts = append(mounts, cgroupMount{
			v2: what[0] == "cgroup2", root: unescape(where[3]), point: unescape(where[4]), options: strings.Split(what[2], ","),
		})
	}
	return mounts
}

// unescape undoes what the kernel writes for white space and backslashes.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

// match finds this process's cgroup in each mounted hierarchy. What is mounted
// twice counts once, at the first place where the cgroup can be seen.
func match(paths map[string]string, mounts []cgroupMount) ([]hierarchy, map[string]error) {
	reasons := make(map[string]error)
	for _, name := range append([]string{""}, v1Controllers...) {
		reasons[name] = fmt.Errorf("%s is not mounted", hierarchyName(name))
	}
	var found []hierarchy
	for _, m := range mounts {
		names := []string{""}
		if !m.v2 {
			names = slices.DeleteFunc(slices.Clone(v1Controllers), func(c string) bool { return !slices.Contains(m.options, c) })
		}
		if len(names) == 0 || reasons[names[0]] == nil {
			continue // of no use, or had already
		}
		path, member := paths[names[0]]
		rel, visible := relative(m.root, path)
		if !member || !visible {
			for _, name := range names {
				reasons[name] = fmt.Errorf("this process's cgroup %q cannot be seen at %s, where %q is mounted", path, m.point, m.root)
			}
			continue
		}
		for _, name := range names {
			delete(reasons, name)
		}
		own := filepath.Join(m.point, rel)
		found = append(found, hierarchy{v2: m.v2, controllers: names, mount: m.point, own: own, base: own})
	}
	return found, reasons
}

func hierarchyName(controller string) string {
	if controller == "" {
		return "cgroup v2"
	}
	return "a v1 hierarchy with the " + controller + " controller"
}

// relative returns path as seen from root, a cgroup too. In a cgroup namespace
// a cgroup outside of it begins with "/..".
func relative(root, path string) (string, bool) {
	if !strings.HasPrefix(path, "/") || path != filepath.Clean(path) {
		return "", false
	}
	if root == "/" {
		return path, true
	}
	rest, ok := strings.CutPrefix(path, root)
	return rest, ok && (rest == "" || rest[0] == '/')
}
