//go:build unix

package load

import (
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
