package raft

import (
	"bytes"
	"runtime"
	"strconv"
	"sync/atomic"
)

// callerID remembers which goroutine is inside a callback of the application, so
// that a call which would wait for that very goroutine can be told from others.
// Go names goroutines only in stack traces; the costly look is taken only while
// somebody is inside at all.
type callerID struct{ goroutine atomic.Uint64 }

// enter takes the calling goroutine's ID, which goroutineID told it once.
func (c *callerID) enter(goroutine uint64) { c.goroutine.Store(goroutine) }

func (c *callerID) leave() { c.goroutine.Store(0) }

// isCaller reports whether the calling goroutine is the one inside.
func (c *callerID) isCaller() bool {
	id := c.goroutine.Load()
	return id != 0 && id == goroutineID()
}

func goroutineID() uint64 {
	var buffer [64]byte
	trace := bytes.TrimPrefix(buffer[:runtime.Stack(buffer[:], false)], []byte("goroutine "))
	digits, _, _ := bytes.Cut(trace, []byte(" "))
	id, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return id
}
