package launch

import (
	"slices"
	"syscall"
)

// Levels of isolation, from the strongest.
const (
	LevelStrict   = "strict"
	LevelNSNoProc = "ns-noproc"
	LevelLandlock = "landlock"
	LevelNone     = "none"
)

// Places inside the sandbox.
const (
	WorkspaceDir = "/workspace"
	HomeDir      = "/home/sop"
	TempDir      = "/tmp"
	CacheDir     = "/cache"    // of its own directory for each cache
	InputDir     = "/input"    // of its own directory for each input
	SocketsDir   = "/run/sop"  // where a service listens
	CallbackDir  = "/run/host" // where its host does
)

// A Plan is all that the stages need to know. The host sends it once.
type Plan struct {
	Level string `json:"level"`

	Argv []string `json:"argv"`
	Env  []string `json:"env"`  // whole; nothing is added
	Dir  string   `json:"dir"`  // where the command starts
	Path []string `json:"path"` // directories where Argv[0] is looked up

	Workspace Tree    `json:"workspace"`
	Caches    []Cache `json:"caches,omitempty"`
	Mounts    []Mount `json:"mounts"` // in order
	Files     []File  `json:"files"`  // made up for the sandbox

	UID      int       `json:"uid"` // of the command, inside as outside
	GID      int       `json:"gid"`
	UIDMap   []IDRange `json:"uid_map"`
	GIDMap   []IDRange `json:"gid_map"`
	Root     bool      `json:"root"`      // the host is root, and not only of some user namespace
	IDMapped bool      `json:"id_mapped"` // root's files in the workspace are to seem the sandbox's

	// Writable are the trees that the command may change.
	Writable []string `json:"writable"`

	Limits Limits `json:"limits"`

	// Proxied says that there is a way out, at [ProxySocket] among the mounts.
	Proxied bool `json:"proxied,omitempty"`

	// Network is what a plugin or a component has of one: see the kinds.
	Network string `json:"network,omitempty"`

	// MemoryCounted says that a cgroup bounds memory, so that calls whose
	// memory nothing else counts may be allowed.
	MemoryCounted bool `json:"memory_counted"`

	// Script says that a plugin's program is a script, which its interpreter
	// opens by name.
	Script bool `json:"script,omitempty"`

	// Serves says that the command listens on sockets with a path.
	Serves bool `json:"serves,omitempty"`

	// Passed names the descriptors that come with the plan, in order.
	Passed []string `json:"passed,omitempty"`

	passed     []int // what they are open as in this process
	userns     int   // by which root's mounts are idmapped; 0 where each run makes its own
	program    int   // what the program is open as; 0 for none
	keepsUser  bool  // the program has the host's ids
	readAll    bool  // the plugin keeps the capability to read what file modes deny
	socketsDir int   // what the directory of sockets is open as, in init; 0 for none
}

// Kinds of network of plugins and components; the zero value is none.
const (
	NetworkNone     = ""
	NetworkLoopback = "loopback" // of its own, with nobody else on it
	NetworkFull     = "full"     // the host's
)

// Names of passed descriptors.
const (
	PassedProgram = "program" // is executed instead of what Argv[0] names
	PassedPatch   = "patch"   // is made in the workspace first; see WritePatch
)

// passedFD is what a descriptor is open as in this process; 0 when none was
// passed.
func (p *Plan) passedFD(name string) int {
	if i := slices.Index(p.Passed, name); i >= 0 && i < len(p.passed) {
		return p.passed[i]
	}
	return 0
}

// A Tree is a directory of the host.
type Tree struct {
	Path string `json:"path"`

	fd int // a detached mount of it; 0 while there is none
}

// A Mount puts a tree of the host, read-only, into the sandbox.
type Mount struct {
	Tree
	Target   string `json:"target"`
	Optional bool   `json:"optional"` // left out where the host has none
	Device   bool   `json:"device"`   // a device node, which nodev would close
}

// A Cache is a tree of the host that the command may change without the host's
// being changed. One without a path is empty.
type Cache struct {
	Tree
	Target string `json:"target"`
}

// A File is made for the sandbox and read-only within it. The content of a
// link is where it points.
type File struct {
	Target  string `json:"target"`
	Content string `json:"content"`
	Link    bool   `json:"link"`
}

// An IDRange maps Count ids from Inside to Outside.
type IDRange struct {
	Inside  int `json:"inside"`
	Outside int `json:"outside"`
	Count   int `json:"count"`
}

// Limits bound what a run may use. Zero means no limit of that kind, except for
// DiskBytes and Inodes, which must be set.
type Limits struct {
	CPUSeconds  uint64 `json:"cpu_seconds"` // of each process
	MemoryBytes uint64 `json:"memory_bytes"`
	Pids        uint64 `json:"pids"`
	OpenFiles   uint64 `json:"open_files"`
	DiskBytes   uint64 `json:"disk_bytes"` // workspace changes, home and /tmp together
	Inodes      uint64 `json:"inodes"`
}

// Kinds of messages.
const (
	KindStarted = "started" // with a pidfd of pid 1
	KindReady   = "ready"   // with a descriptor of the upper directory, and one of that of sockets for a service
	KindLimit   = "limit"   // a limit was hit and the run is being ended
	KindExited  = "exited"
	KindRefused = "refused"
)

// A Message is what a stage tells the host.
type Message struct {
	Kind string `json:"kind"`

	// Refused: which step failed, and how. Errno is 0 where no system call
	// was to blame.
	Stage  string        `json:"stage,omitempty"`
	Errno  syscall.Errno `json:"errno,omitempty"`
	Detail string        `json:"detail,omitempty"`

	PID         int  `json:"pid,omitempty"`          // started
	IDMapped    bool `json:"id_mapped,omitempty"`    // started
	LandlockABI int  `json:"landlock_abi,omitempty"` // ready
	Notify      bool `json:"notify,omitempty"`       // ready: denied calls are recorded

	Limit string `json:"limit,omitempty"` // limit

	// Exited.
	Exit     int      `json:"exit"`
	Signal   int      `json:"signal,omitempty"`
	UserUS   int64    `json:"user_us,omitempty"`
	SystemUS int64    `json:"system_us,omitempty"`
	MaxRSSKB int64    `json:"max_rss_kb,omitempty"`
	Denied   []Denied `json:"denied,omitempty"`

	// Phases are microseconds since the Unix epoch at which a stage reached a
	// point.
	Phases map[string]int64 `json:"phases,omitempty"`
}

// Denied counts how often a program tried a call that is not allowed.
type Denied struct {
	Process string `json:"process"`
	Syscall string `json:"syscall"`
	Count   int    `json:"count"`
}

// MemoryBytesUncounted says that nothing but pid 1 bounds the memory of all
// processes together.
func (p *Plan) MemoryBytesUncounted() bool {
	return p.Limits.MemoryBytes > 0 && !p.MemoryCounted && p.Level == LevelStrict
}
