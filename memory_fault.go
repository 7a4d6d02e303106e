package raft

import (
	"container/heap"
	"time"
)

// MemoryStats counts messages, answers included.
type MemoryStats struct {
	Sent       uint64 // by servers
	Delivered  uint64 // to servers
	Dropped    uint64 // for whatever reason
	Duplicated uint64 // delivered once more, because of SetDuplicates
	Changed    uint64 // whose sender changed their bytes after it had sent them; see SetChecked

	// Why messages were dropped.
	Lost    uint64 // by SetLoss, an interceptor or their Fate
	Cut     uint64 // by Partition, Isolate or Block
	Stalled uint64 // by Stall, or behind one that their stream has lost

	// What else the faults did.
	Broken       uint64 // streams, because of a message lost
	Paused       uint64 // held back by Pause
	Clogged      uint64 // held back by Clog
	Delayed      uint64 // by their Fate
	Overtaken    uint64 // by one that was sent later on the same link, and arrived before
	Replayed     uint64 // copies, because of Fate.Again
	Late         uint64 // requests that came to another life of their addressee than they were sent to, or after their sender's
	Misdelivered uint64 // sent to another server, because of Fate.To
	Flipped      uint64 // with changed bits, because of Fate.Flip
	Unnoticed    uint64 // of those, which the real decoder took nevertheless
}

// arrived counts a parcel that is delivered; host has the addressee's name now.
func (s *MemoryStats) arrived(p *parcel, host *MemoryTransporter) {
	s.Delivered++
	if !p.answer && (p.from.gone || host != p.met) {
		s.Late++
	}
	switch {
	case p.copied || p.astray: // neither is part of the link's order
	case p.number < p.route.latest:
		s.Overtaken++
	default:
		p.route.latest = p.number
	}
}

// Stall makes everything vanish that one server sends to another one, in this
// direction only, and tells nobody: calls get no answer and no error, and a
// stream that has lost a message so delivers nothing more in that direction, as
// half-open connections do, even after Unstall. New streams work then.
func (n *MemoryNetwork) Stall(from, to string) {
	n.set(func(f *faults) { f.stalled[memoryLink{from, to}] = true })
}

// Unstall ends a Stall.
func (n *MemoryNetwork) Unstall(from, to string) {
	n.set(func(f *faults) { delete(f.stalled, memoryLink{from, to}) })
}

// Clog holds back everything that one server sends to another one, in this
// direction only, and nothing says why. Unclog delivers it in its order, streams
// and calls alike.
func (n *MemoryNetwork) Clog(from, to string) {
	n.set(func(f *faults) { f.clogged[memoryLink{from, to}] = true })
}

// Unclog ends a Clog.
func (n *MemoryNetwork) Unclog(from, to string) {
	n.release(func(f *faults) { delete(f.clogged, memoryLink{from, to}) })
}

// Pause holds back all messages to and from a server, as when its process is
// suspended: calls to it get no answer, and nothing says why. Resume delivers
// what was held back.
func (n *MemoryNetwork) Pause(name string) {
	n.set(func(f *faults) { f.paused[name] = true })
}

// Resume ends a Pause.
func (n *MemoryNetwork) Resume(name string) {
	n.release(func(f *faults) { delete(f.paused, name) })
}

// Heal ends every Partition, Isolate, Block, Stall, Clog and Pause. Delay, loss,
// duplication, fates and interceptor stay.
func (n *MemoryNetwork) Heal() {
	n.release(func(f *faults) {
		f.groups = nil
		clear(f.isolated)
		clear(f.blocked)
		clear(f.stalled)
		clear(f.clogged)
		clear(f.paused)
	})
}

// heldBy says what a parcel was held back by already; it is counted once for each.
type heldBy struct{ pause, clog bool }

// holds keeps a parcel that has arrived at, or from, a server that is paused, or
// on a link that is clogged.
func (n *MemoryNetwork) holds(p *parcel) bool {
	paused := len(n.mu.paused) > 0 && (n.mu.paused[p.from.name] || n.mu.paused[p.to])
	clogged := len(n.mu.clogged) > 0 && n.mu.clogged[memoryLink{p.from.name, p.to}]
	if !paused && !clogged {
		return false
	}
	if paused && !p.held.pause {
		p.held.pause = true
		n.mu.stats.Paused++
	}
	if clogged && !p.held.clog {
		p.held.clog = true
		n.mu.stats.Clogged++
	}
	n.mu.held = append(n.mu.held, p)
	return true
}

// release changes the faults and lets go what was held back, in the order in which
// it arrived and one at an instant, so that the goroutines which serve it do not
// decide about the order; what is to be held still is held again.
func (n *MemoryNetwork) release(change func(*faults)) {
	n.mu.Lock()
	change(&n.mu.faults)
	now := time.Now()
	for i, p := range n.mu.held {
		p.due = now.Add(time.Duration(i + 1))
		if p.pipe != nil && p.due.After(p.pipe.last) {
			p.pipe.last = p.due
		}
		heap.Push(&n.mu.transit, p)
	}
	n.mu.held = nil
	n.mu.Unlock()
	n.wake()
}
