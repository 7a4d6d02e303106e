//go:build simulation

package simulation

import (
	"fmt"
	"hash/fnv"
	"sync"
	"time"
)

// trace is what a run tells: every line with the time since it began. Its hash
// stands for the whole.
type trace struct {
	began time.Time
	sink  func(line []byte) // nil: nobody reads it
	mu    sync.Mutex
	line  []byte
	hash  uint64
}

func newTrace(sink func([]byte)) *trace {
	return &trace{began: time.Now(), sink: sink, hash: fnvOffset}
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// now is the time since the run began.
func (t *trace) now() time.Duration { return time.Since(t.began) }

// printf adds a line. What it is made of may take locks of its own, whose holders
// wait to add lines: so it is made before the trace is locked.
func (t *trace) printf(format string, args ...any) {
	text := fmt.Appendf(nil, format, args...)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.line = fmt.Appendf(t.line[:0], "%5d.%09d ", now/time.Second, now%time.Second)
	t.line = append(append(t.line, text...), '\n')
	h := fnv.New64a()
	h.Write(t.line)
	t.hash = (t.hash ^ h.Sum64()) * fnvPrime
	if t.sink != nil {
		t.sink(t.line)
	}
}

// sum is the hash of all lines so far.
func (t *trace) sum() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hash
}
