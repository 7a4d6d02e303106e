//go:build unix

package load

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// spending is what the process has spent so far, or within some time.
type spending struct {
	cpu           time.Duration
	allocs, bytes uint64
}

func usage() spending {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // fails for bad arguments only
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return spending{time.Duration(r.Utime.Nano() + r.Stime.Nano()), m.Mallocs, m.TotalAlloc}
}

func (s spending) since(before spending) spending {
	return spending{s.cpu - before.cpu, s.allocs - before.allocs, s.bytes - before.bytes}
}

// resident is how much of the process's memory is in RAM, 0 where the system does
// not say so in Linux's way.
func resident() uint64 {
	var size, pages uint64
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
