package raft

import (
	"container/heap"
	"math"
	"slices"
	"sync/atomic"
)

// looking is who looks at the state machine, and who waits to. Only the applier lets
// somebody in, and only between two entries, so nobody needs a lock.
type looking struct {
	waiting readHeap
	taken   []*read      // scratch of admit
	next    uint64       // the least index that one of those waits for, if there is any
	pruned  int          // how many waited when those had been dropped who do not any more
	inside  atomic.Int64 // who sees the state machine, and holds off Apply
	staying atomic.Int64 // who looks at all, at a ConcurrentReader too
	wanted  atomic.Bool  // the applier waits for them to leave
}

// due reports whether somebody may be let in.
func (k *looking) due(applied uint64, reads *queue[*read]) bool {
	return len(reads.ready) > 0 || len(k.waiting) > 0 && applied >= k.next
}

// admit lets in whoever waits for no more than what is applied. After a halt the
// state machine may be half way through an entry, and nobody may see it; nor while a
// snapshot is to be restored, since another one may have been restored in part.
func (a *applier) admit() {
	k := &a.looking
	select {
	case <-a.reads.ready: // unless it has brought the applier here
	default:
	}
	k.taken = a.reads.take(k.taken)
	for _, q := range k.taken {
		heap.Push(&k.waiting, q)
	}
	applied := a.applied.Load()
	for len(k.waiting) > 0 && (!a.interrupted() && k.waiting[0].index <= applied || a.halt != nil) {
		a.let(heap.Pop(&k.waiting).(*read), applied)
	}
	if len(k.waiting) > 2*k.pruned+64 {
		k.waiting = slices.DeleteFunc(k.waiting, (*read).gone)
		heap.Init(&k.waiting)
		k.pruned = len(k.waiting)
	}
	if k.next = math.MaxUint64; len(k.waiting) > 0 {
		k.next = k.waiting[0].index
	}
}

// let answers one who waits.
func (a *applier) let(q *read, applied uint64) {
	if a.halt != nil {
		q.answer(readOutcome{err: a.halt})
		return
	}
	look := q.look
	a.looking.enter(look) // it may be gone again at once
	if !q.answer(readOutcome{index: applied}) {
		a.looking.leave(look)
	}
}

// How a read looks at the state machine.
const (
	looksNot    uint8 = iota // it asks only how far that is
	looksBeside              // at a ConcurrentReader
	looksAlone               // nothing may be applied meanwhile
)

func (k *looking) enter(look uint8) {
	if look >= looksBeside {
		k.staying.Add(1)
	}
	if look == looksAlone {
		k.inside.Add(1)
	}
}

// leave reports whether that lets somebody go on who waits.
func (k *looking) leave(look uint8) bool {
	last := false
	if look == looksAlone {
		last = k.inside.Add(-1) == 0
	}
	if look >= looksBeside {
		last = k.staying.Add(-1) == 0 || last
	}
	return last && k.wanted.Load()
}

// seen is called by who was let in, and leaves.
func (a *applier) seen(look uint8) {
	if a.looking.leave(look) {
		select {
		case a.left <- struct{}{}:
		default:
		}
	}
}

// exclude waits until nobody sees the state machine who holds off Apply. Nobody is let
// in meanwhile.
func (a *applier) exclude() {
	if a.looking.inside.Load() > 0 {
		a.await(&a.looking.inside)
	}
}

// excludeAll waits until nobody looks at all: the next run takes the state machine back
// to where that begins, which is no concern of who reads now.
func (a *applier) excludeAll() { a.await(&a.looking.staying) }

func (a *applier) await(who *atomic.Int64) {
	a.looking.wanted.Store(true)
	for who.Load() > 0 {
		<-a.left // or it holds the token of somebody who was not waited for
	}
	a.looking.wanted.Store(false)
}

// readHeap has the read first that waits for the least.
type readHeap []*read

func (h readHeap) Len() int           { return len(h) }
func (h readHeap) Less(i, j int) bool { return h[i].index < h[j].index }
func (h readHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *readHeap) Push(q any)        { *h = append(*h, q.(*read)) }

// Pop is heap's.
func (h *readHeap) Pop() any {
	n := len(*h) - 1
	q := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return q
}
