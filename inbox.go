package raft

import (
	"sync"
	"sync/atomic"
)

// queue hands values from many goroutines to one, which takes all that wait at
// once. It has no limit of its own: whoever puts bounds what it has under way.
type queue[T any] struct {
	yielding
	ready chan struct{} // holds a token while values may wait
	over  atomic.Bool   // closed; set with the lock
	mu    struct {
		sync.Mutex
		items []T
		told  bool // the taker has been told of what waits
	}
}

func newQueue[T any]() *queue[T] {
	return &queue[T]{ready: make(chan struct{}, 1)}
}

// put adds a value and reports whether the queue still takes any.
func (q *queue[T]) put(item T) bool {
	q.yield("put")
	return q.add(item)
}

// add is put for a goroutine that no simulation may hold up, because it serves other
// servers, too, or Stop does not wait for it.
func (q *queue[T]) add(item T) bool { return q.enter(item, 1) }

// maxLeft is how many values may be left before the taker is told.
const maxLeft = 64

// leave is put for a value that the taker need not be woken for, before it comes for
// something else.
func (q *queue[T]) leave(item T) bool {
	q.yield("put")
	return q.enter(item, maxLeft)
}

// enter adds a value, and tells the taker if at least enough wait.
func (q *queue[T]) enter(item T, enough int) bool {
	q.mu.Lock()
	if q.over.Load() {
		q.mu.Unlock()
		return false
	}
	q.mu.items = append(q.mu.items, item)
	tell := !q.mu.told && len(q.mu.items) >= enough
	q.mu.told = q.mu.told || tell
	q.mu.Unlock()
	if tell {
		q.signal()
	}
	return true
}

// addAll is add for several values in their order.
func (q *queue[T]) addAll(items []T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.over.Load() {
		q.mu.items = append(q.mu.items, items...)
	}
	return !q.over.Load()
}

// pop returns the value that was put first, if one waits and is wanted.
func (q *queue[T]) pop(wanted func(first T) bool) (first T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.items) == 0 || !wanted(q.mu.items[0]) {
		return first, false
	}
	first, q.mu.items[0] = q.mu.items[0], first
	q.mu.items = q.mu.items[1:]
	return first, true
}

// merge lets join add to the value that was put last, if one still waits and join
// takes it, and puts the item otherwise. It reports like put; join must not use
// the queue.
func (q *queue[T]) merge(item T, join func(last *T) bool) bool {
	q.yield("put")
	q.mu.Lock()
	if n := len(q.mu.items); n > 0 && !q.over.Load() && join(&q.mu.items[n-1]) {
		q.mu.Unlock()
		return true
	}
	q.mu.Unlock()
	return q.add(item)
}

// take returns all that waits, in the order of put, and keeps emptied to fill
// next: the slice that the last take returned, done with.
func (q *queue[T]) take(emptied []T) []T {
	clear(emptied)
	q.mu.Lock()
	items := q.mu.items
	q.mu.items, q.mu.told = emptied[:0], false
	q.mu.Unlock()
	q.yield("taken")
	return items
}

// waiting reports whether there is something to take.
func (q *queue[T]) waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.mu.items) > 0
}

// close makes put refuse; what was put before can still be taken. The taker is
// woken.
func (q *queue[T]) close() {
	q.mu.Lock()
	q.over.Store(true)
	q.mu.Unlock()
	q.signal()
}

// closed reports whether close was called.
func (q *queue[T]) closed() bool { return q.over.Load() }

func (q *queue[T]) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
