package raft

import "sync"

// intake is where proposals wait for the event loop. They are taken together: while
// as many batches as help are under way, the next ones gather, so that a loaded
// leader spends a turn, a write and a message on many of them and not on each.
type intake struct {
	yielding
	wake func() // wakes the event loop
	mu   struct {
		sync.Mutex
		items  []*proposal
		bytes  int
		wanted bool // the loop waits for the next one
		closed bool
	}
}

// enoughBytes is how much need not gather any further: a message's worth.
const enoughBytes = maxBatchBytes

func newIntake(wake func()) *intake {
	in := &intake{wake: wake}
	in.mu.wanted = true
	return in
}

// put adds a proposal and reports whether any are still taken.
func (in *intake) put(p *proposal) bool {
	in.yield("put")
	in.mu.Lock()
	if in.mu.closed {
		in.mu.Unlock()
		return false
	}
	before := in.mu.bytes
	in.mu.items = append(in.mu.items, p)
	in.mu.bytes += len(p.record)
	wake := in.mu.wanted || before < enoughBytes && in.mu.bytes >= enoughBytes
	in.mu.wanted = false
	in.mu.Unlock()
	if wake {
		in.wake()
	}
	return true
}

// take returns what waits, if it is that many bytes, in the order of put. If nothing
// waits the next put will wake the loop; if too little does, the one that makes it
// enough. emptied is the slice that the last take returned, done with.
func (in *intake) take(emptied []*proposal, bytes int) []*proposal {
	clear(emptied)
	in.mu.Lock()
	items := emptied[:0]
	if in.mu.bytes >= bytes {
		items = in.mu.items
		in.mu.items, in.mu.bytes = emptied[:0], 0
		in.mu.wanted = len(items) == 0
	}
	in.mu.Unlock()
	in.yield("taken")
	return items
}

// close makes put refuse, and returns what waits.
func (in *intake) close() []*proposal {
	in.mu.Lock()
	defer in.mu.Unlock()
	items := in.mu.items
	in.mu.items, in.mu.closed = nil, true
	return items
}
