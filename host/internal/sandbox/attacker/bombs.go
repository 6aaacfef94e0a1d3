package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bombs use up something. They report how far they came, where they come back.
var bombs = map[string]func(){
	"fork":        forkBomb,
	"memory":      func() { memory(unix.MAP_PRIVATE, 1<<40) },
	"shared":      func() { memory(unix.MAP_SHARED, 1<<40) },
	"memory-many": memoryMany,
	"memfd":       memfdBomb,
	"hog":         func() { memory(unix.MAP_PRIVATE, 48<<20); wait() },
	"file":        bigFile,
	"files":       func() { manyFiles(strings.Repeat("x", 64<<10)) },
	"inodes":      func() { manyFiles("") },
	"output":      output,
	"time":        func() { signal.Ignore(); wait() },
	"cpu":         spin,
	"daemon":      daemon,
	"sleep":       wait,
	"descriptors": descriptors,
}

// spin has no use for what it counts.
func spin() {
	signal.Ignore()
	for n := uint64(1); n != 0; n += 2 {
		runtime.KeepAlive(n)
	}
}

func wait() { time.Sleep(time.Hour) }

// forkBomb starts sleepers until it cannot.
func forkBomb() {
	for n := 0; ; n++ {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 || n >= 100_000 {
			fmt.Println(n)
			return
		}
		if pid == 0 {
			unix.RawSyscall(unix.SYS_PPOLL, 0, 0, 0)
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}

// memory says how far it came when it has taken all that there is. From its first
// block on it allocates nothing of its own: the runtime of Go would not survive that.
func memory(flags int, most int) {
	const step = 4 << 20
	text := make([]byte, 0, 24)
	for taken := 0; taken < most; taken += step {
		block, err := unix.MmapPtr(-1, 0, nil, step, unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_ANONYMOUS)
		if err != nil {
			if _, err := unix.Write(1, strconv.AppendInt(text, int64(taken), 10)); err != nil {
				os.Exit(1)
			}
			return
		}
		for i := 0; i < step; i += 4096 {
			*(*byte)(unsafe.Add(block, i)) = 1
		}
	}
}

// memfdBomb takes memory that belongs to no process.
func memfdBomb() {
	block := make([]byte, 1<<20)
	for i := range 64 {
		fd, err := unix.MemfdCreate(fmt.Sprint("m", i), 0)
		if err != nil {
			fmt.Println(err)
			return
		}
		for range 30 {
			if _, err := unix.Write(fd, block); err != nil {
				break
			}
		}
	}
}

// memoryMany has each process stay within its own limit.
func memoryMany() {
	for range 16 {
		if err := exec.Command(os.Args[0], "bomb", "hog").Start(); err != nil {
			fmt.Println(err)
			return
		}
	}
	wait()
}

// bigFile ignores SIGXFSZ, as somebody would who means it.
func bigFile() {
	signal.Ignore(syscall.SIGXFSZ)
	total := 0
	for i := range 64 {
		file, err := os.Create(filepath.Join([]string{"/workspace", "/tmp", os.Getenv("HOME"), "/dev/shm"}[i%4], fmt.Sprint("big", i)))
		if err != nil {
			break
		}
		block := make([]byte, 1<<20)
		for {
			n, err := file.Write(block)
			total += n
			if err != nil {
				break
			}
		}
	}
	fmt.Println(total)
}

func manyFiles(content string) {
	n := 0
	for ; n < 10_000_000; n++ {
		if os.WriteFile(filepath.Join("/tmp", fmt.Sprint("f", n)), []byte(content), 0o644) != nil {
			break
		}
	}
	fmt.Println(n)
}

func output() {
	line := []byte(strings.Repeat("y", 4095) + "\n")
	for {
		if _, err := os.Stdout.Write(line); err != nil {
			return
		}
	}
}

// daemon leaves a process behind that has nothing to do with this one.
func daemon() {
	cmd := exec.Command(os.Args[0], append([]string{"bomb", "sleep"}, os.Args[3:]...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("left", cmd.Process.Pid)
}

func descriptors() {
	n := 0
	for {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			fmt.Println(n)
			return
		}
		n++
	}
}
