package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// A Backup saves a workspace, or the host's own state, on a schedule.
type Backup struct {
	Name      string
	Plugin    string // name of a backup plugin
	Workspace string // empty: the host's own state
	State     bool
	// How often; zero: only on request, or not at all.
	Interval  time.Duration
	Structure time.Duration // verify that everything is there
	Data      time.Duration // verify every byte
	Drill     time.Duration // restore to a scratch directory and compare
	// Snapshots of the schedule beyond both are deleted; both zero: none is.
	KeepLast   int
	KeepWithin time.Duration
	Source     Range
}

var (
	backupAttributes          = []string{"plugin", "workspace", "state", "interval", "drill"}
	backupBlocks              = []string{"retention", "verify"}
	backupRetentionAttributes = []string{"keep_last", "keep_within"}
	backupVerifyAttributes    = []string{"structure", "data"}

	backupBounds     = bounds{low: time.Minute, high: 366 * 24 * time.Hour, orZero: true}
	backupKeepBounds = bounds{low: time.Minute, high: 100 * 366 * 24 * time.Hour, orZero: true}
)

const greatestKeepLast = 100_000

func (l *loader) readBackups(blocks []*hclsyntax.Block, s *scope) []Backup {
	var out []Backup
	seen := make(map[string]Range)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		if !l.wantLabels(evaluated, "name") {
			l.allow(evaluated, backupAttributes, backupBlocks)
			continue
		}
		read := readBackup(&l.reporter, evaluated, l.dir)
		if first, taken := seen[read.Name]; taken {
			l.duplicate(b, fmt.Sprintf("backup %q", read.Name), first)
			continue
		}
		seen[read.Name] = read.Source
		out = append(out, read)
	}
	slices.SortFunc(out, func(a, b Backup) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// readBackup reads a backup block that has its one label.
func readBackup(r *reporter, b *block, dir string) Backup {
	s := section{reporter: r, dir: dir}.within(b)
	r.nameLabel(b, 0)
	r.allow(b, backupAttributes, backupBlocks)
	s.require("plugin")
	out := Backup{
		Name: b.labels[0], Plugin: s.text("plugin", "", checkArgument), Workspace: s.text("workspace", "", checkArgument), State: s.boolean("state", false),
		Interval: s.duration("interval", 24*time.Hour, backupBounds), Drill: s.duration("drill", 0, backupBounds), Source: publicRange(b.header),
	}
	if out.State == (out.Workspace != "") {
		r.errorf(b.header, "What to back up is not clear", "A backup block has either a workspace, by its name, or state = true for the host's own state.")
	}
	verify := r.single(b, "verify")
	if verify != nil {
		r.allow(verify, backupVerifyAttributes, nil)
	}
	v := s.within(verify)
	out.Structure, out.Data = v.duration("structure", 24*time.Hour, backupBounds), v.duration("data", 7*24*time.Hour, backupBounds)
	if retention := r.single(b, "retention"); retention != nil {
		r.allow(retention, backupRetentionAttributes, nil)
		keep := s.within(retention)
		out.KeepLast, out.KeepWithin = keep.integer("keep_last", 0, 0, greatestKeepLast), keep.duration("keep_within", 0, backupKeepBounds)
	}
	return out
}

// checkBackups says where a backup block names what is not there.
func (l *loader) checkBackups(c *Config, blocks []*hclsyntax.Block) {
	if l.incomplete {
		return // what is missing may stand in what could not be read
	}
	for _, b := range c.Backups {
		at := l.backupBlock(blocks, b.Name)
		if at == nil {
			continue
		}
		if p := c.Plugin("backup." + b.Plugin); b.Plugin != "" && p == nil {
			l.errorf(at.DefRange(), "Unknown backup plugin", "There is no plugin \"backup\" %q for the backup %q.", b.Plugin, b.Name)
		}
		if b.Workspace != "" && c.Workspace(b.Workspace) == nil {
			l.errorf(at.DefRange(), "Unknown workspace", "There is no workspace %q for the backup %q.", b.Workspace, b.Name)
		}
	}
}

func (l *loader) backupBlock(blocks []*hclsyntax.Block, name string) *hclsyntax.Block {
	i := slices.IndexFunc(blocks, func(b *hclsyntax.Block) bool { return len(b.Labels) == 1 && b.Labels[0] == name })
	if i < 0 {
		return nil
	}
	return blocks[i]
}

func backupsByName(c *Config) map[string]*Backup {
	out := make(map[string]*Backup)
	if c != nil {
		for i := range c.Backups {
			out[c.Backups[i].Name] = &c.Backups[i]
		}
	}
	return out
}

// diffBackups says what becomes of each schedule. Nothing of them takes more than
// new times.
func diffBackups(old, next *Config) []Change {
	var changes []Change
	before, after := backupsByName(old), backupsByName(next)
	for _, name := range keysOfBoth(before, after) {
		change := Change{Object: ObjectBackup, ID: name, Action: ActionUnchanged}
		switch was, is := before[name], after[name]; {
		case was == nil:
			change.Action, change.Reasons = ActionStart, []string{"added"}
		case is == nil:
			change.Action, change.Reasons = ActionStop, []string{"removed"}
		default:
			if why := backupReasons(*was, *is); len(why) > 0 {
				change.Action, change.Reasons = ActionUpdate, why
			}
		}
		changes = append(changes, change)
	}
	return changes
}

func backupReasons(old, next Backup) reasons {
	var why reasons
	why.changed("plugin", old.Plugin != next.Plugin)
	why.changed("workspace", old.Workspace != next.Workspace)
	why.changed("state", old.State != next.State)
	why.changed("interval", old.Interval != next.Interval)
	why.changed("verify", old.Structure != next.Structure || old.Data != next.Data)
	why.changed("drill", old.Drill != next.Drill)
	why.changed("retention", old.KeepLast != next.KeepLast || old.KeepWithin != next.KeepWithin)
	return why
}

// SameBackup compares schedules, and not where they stand.
func SameBackup(a, b Backup) bool {
	a.Source, b.Source = Range{}, Range{}
	return reflect.DeepEqual(a, b)
}
