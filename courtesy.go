package raft

import (
	"runtime"
	"time"
)

// courtesy lets the goroutines that are ready to run go first. Those that compute, as an
// application's may, keep a processor for 10 ms each, and whoever let them go first
// waits for all of them: longer than for a disk, or for an election. So after a wait
// that was too long there is no courtesy for a while.
type courtesy struct {
	next  time.Time     // none before
	pause time.Duration // how many times as long as the last wait there was no other
}

const (
	// longCourtesy is more than a thousand callers take that come back.
	longCourtesy = 5 * time.Millisecond
	// After a wait that was of no use there is no other one for so many times as long:
	// the least at first, since a sync may have kept the processor for once, and twice
	// as many after each that follows it and is too long.
	leastCourtesyPause, mostCourtesyPause = 4, 64
)

// extend returns how long the others took, and whether they were let go first.
func (c *courtesy) extend() (took time.Duration, ok bool) {
	began := time.Now()
	if began.Before(c.next) {
		return 0, false
	}
	runtime.Gosched()
	if took = time.Since(began); took < longCourtesy {
		c.pause = 0
	} else {
		c.rue(took)
	}
	return took, true
}

// rue says that what took so long was of no use.
func (c *courtesy) rue(took time.Duration) {
	c.pause = min(max(2*c.pause, leastCourtesyPause), mostCourtesyPause)
	c.next = time.Now().Add(c.pause * took)
}
