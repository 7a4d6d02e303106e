package raft

import (
	"math"
	"slices"
)

// The disks of the clocked world: orders that take time, and promises that wait
// for them, as in durability.go, promises.go and log_writer.go.

// clockStore is what survives a crash.
type clockStore struct {
	identity
	ballot
	entries []uint32
	base    entryID // a snapshot stands for the entries up to here
	commit  uint64
	file    []uint32 // of a snapshot that was received: the entries that it stands for
}

// clockOrder is what one turn wants durable.
type clockOrder struct {
	sequence  uint64
	ballot    ballot
	clusterID uint64
	from      uint64 // ids replace the entries from here on; 0: they stay
	ids       []uint32
	last      uint64 // of the entries, as long as none of them is truncated
	base      entryID
	commit    uint64
}

// clockWriter is what a server knows of its own disk.
type clockWriter struct {
	orders                     []clockOrder // given and not yet carried out
	under                      int          // how many of them the disk is busy with
	ordered, balloted, written uint64
	durable                    uint64
	since                      int64
	stalled                    int64 // the disk answers nothing before
	slow                       int64 // how many times longer it takes, 0: none

	// What the next order holds.
	saved      ballot
	identified bool
	rewritten  uint64 // entries from here on, 0: none
	rebased    bool
	ids        [][]uint32 // used again
}

// write wants the entries from an index on durable.
func (o *clockWriter) write(from uint64) {
	if o.rewritten == 0 || from < o.rewritten {
		o.rewritten = from
	}
}

// clockPromise is an answer that waits until what it promises is durable, or an
// election whose candidate must have stored its own vote.
type clockPromise struct {
	needs    uint64
	letter   *clockLetter
	election *election
}

func (s *clockServer) promise(l *clockLetter) {
	s.promises = append(s.promises, clockPromise{letter: l})
}

// flush makes the world agree with the decisions of a turn.
func (s *clockServer) flush() {
	if s.office != nil {
		s.lead()
	}
	s.save()
	if s.commitIndex != s.told {
		s.w.committed(s, s.told)
		s.told = s.commitIndex
	}
	s.keep()
}

// save gives the disk what the turn wants durable, and tells its promises what
// they wait for.
func (s *clockServer) save() {
	o := &s.out
	if s.ballot != o.saved || o.identified || o.rewritten > 0 || o.rebased {
		s.order()
	}
	for i := s.bound[0]; i < len(s.promises); i++ {
		s.promises[i].needs = o.balloted
	}
	for i := s.bound[1]; i < len(s.pledges); i++ {
		s.pledges[i].needs = o.ordered
	}
	s.bound = [2]int{len(s.promises), len(s.pledges)}
}

func (s *clockServer) order() {
	o := &s.out
	if o.written == o.ordered {
		o.since = s.w.now
	}
	o.ordered++
	if s.ballot != o.saved || o.identified {
		o.balloted = o.ordered
	}
	next := clockOrder{sequence: o.ordered, ballot: s.ballot, clusterID: s.clusterID, base: s.log.base, commit: s.commitIndex}
	if o.rewritten > 0 {
		if n := len(o.ids); n > 0 {
			next.ids, o.ids = o.ids[n-1][:0], o.ids[:n-1]
		}
		next.from, next.last = o.rewritten, s.log.end
		next.ids = append(next.ids, s.entries[o.rewritten-1:]...)
	}
	o.orders = append(o.orders, next)
	o.saved, o.identified, o.rewritten, o.rebased = s.ballot, false, 0, false
	s.sync()
}

// sync has the disk carry out what is ordered, all at once, when it is free.
func (s *clockServer) sync() {
	o := &s.out
	if o.under > 0 || len(o.orders) == 0 {
		return
	}
	o.under = len(o.orders)
	took := s.w.plan.sync
	if j := s.w.plan.syncJitter; j > 0 {
		took += s.w.rng.Int64N(j)
	}
	took *= 1 + o.slow
	s.w.at(max(took, o.stalled-s.w.now), clockEvent{kind: clockSynced, server: s.id, gen: s.life})
}

// synced takes the disk's word.
func (s *clockServer) synced() {
	o := &s.out
	for i := range o.orders[:o.under] {
		done := &o.orders[i]
		s.disk.carryOut(done)
		o.written = done.sequence
		if done.from > 0 {
			o.durable = max(o.durable, done.last)
		}
		if cap(done.ids) > 0 && cap(done.ids) < 1<<10 {
			o.ids = append(o.ids, done.ids)
		}
	}
	o.orders = slices.Delete(o.orders, 0, o.under)
	o.under, o.since = 0, s.w.now
	s.sync()
	s.settle()
}

func (d *clockStore) carryOut(o *clockOrder) {
	d.ballot, d.clusterID = o.ballot, o.clusterID
	if o.from > 0 {
		d.entries = append(d.entries[:o.from-1], o.ids...)
	}
	d.base, d.commit = o.base, min(o.commit, uint64(len(d.entries)))
}

// mend brings the log in line with a snapshot that was received, as the next
// start does when it was not put in force.
func (d *clockStore) mend(w *clockWorld) {
	n := len(d.file)
	if n == 0 || n <= len(d.entries) && d.entries[n-1] == d.file[n-1] {
		return
	}
	d.entries = append(d.entries[:0], d.file...)
	d.base = entryID{uint64(n), w.book[d.file[n-1]].term}
	d.commit = uint64(n)
}

// truncated takes notice that the log was cut before index. Answers that promise
// what is no longer there say so.
func (s *clockServer) truncated(index uint64) {
	o := &s.out
	o.durable = min(o.durable, index-1)
	for i := range o.orders {
		o.orders[i].last = min(o.orders[i].last, index-1)
	}
	o.write(index)
	bound := 0
	kept := s.pledges[:0]
	for i, p := range s.pledges {
		if m := &p.letter.appended; m.index >= index {
			m.success, m.term, m.index = false, s.term, s.log.end
			s.promise(p.letter)
			continue
		}
		if i < s.bound[1] {
			bound++
		}
		kept = append(kept, p)
	}
	s.pledges, s.bound[1] = kept, bound
}

// keep gives the answers whose orders are carried out.
func (s *clockServer) keep() {
	s.promises = s.kept(s.promises)
	s.pledges = s.kept(s.pledges)
	s.bound = [2]int{len(s.promises), len(s.pledges)}
}

func (s *clockServer) kept(waiting []clockPromise) []clockPromise {
	n := 0
	for n < len(waiting) && waiting[n].needs <= s.out.written {
		if p := &waiting[n]; p.election == nil {
			s.w.post(s, p.letter)
		} else if p.election == s.election && s.role == Candidate {
			s.ask(p.election)
		}
		n++
	}
	if n == 0 {
		return waiting
	}
	return slices.Delete(waiting, 0, n)
}

// holdsAt reports whether the disk holds the entry at index.
func (s *clockServer) holdsAt(index uint64, id uint32) bool {
	return index <= uint64(len(s.disk.entries)) && s.disk.entries[index-1] == id ||
		index <= uint64(len(s.disk.file)) && s.disk.file[index-1] == id
}

// none is the earliest time that never comes.
const none = math.MaxInt64
