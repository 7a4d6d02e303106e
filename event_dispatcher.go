package raft

import (
	"slices"
	"sync"
	"sync/atomic"
)

// maxEvents bounds the events that wait for slow listeners.
const maxEvents = 4096

// eventDispatcher delivers events to listeners, in order, on one goroutine of
// its own that lives while there is something to deliver. Nothing in the
// protocol waits for it.
type eventDispatcher struct {
	yielding
	source  interface{}
	dropped atomic.Uint64
	heard   atomic.Pointer[map[string][]EventListener]
	inside  callerID // the goroutine that calls listeners
	mu      struct {
		sync.Mutex
		waiting []*event
		running bool
		tasks   *tasks // of the run that the server is in
	}
}

// AddEventListener calls the listener for every later event of the type.
func (d *eventDispatcher) AddEventListener(eventType string, listener EventListener) {
	for {
		old := d.heard.Load()
		listeners := map[string][]EventListener{}
		if old != nil {
			for t, l := range *old {
				listeners[t] = l
			}
		}
		listeners[eventType] = append(slices.Clip(listeners[eventType]), listener)
		if d.heard.CompareAndSwap(old, &listeners) {
			return
		}
	}
}

// listens reports whether anybody hears events of the type.
func (d *eventDispatcher) listens(eventType string) bool {
	heard := d.heard.Load()
	return heard != nil && len((*heard)[eventType]) > 0
}

// dispatch queues an event. When too many wait, an older one makes room for a
// state or a leader, so that the latest is always delivered; other events are
// dropped and counted.
func (d *eventDispatcher) dispatch(eventType string, value, prev interface{}) {
	if !d.listens(eventType) {
		return
	}
	e := &event{typ: eventType, source: d.source, value: value, prev: prev}
	d.mu.Lock()
	start := d.admit(e)
	tasks := d.mu.tasks
	d.mu.Unlock()
	if start {
		tasks.Go("events", d.deliver)
	}
}

// admit puts the event in line, under the lock, and reports whether a goroutine
// must be started to deliver it.
func (d *eventDispatcher) admit(e *event) bool {
	if len(d.mu.waiting) >= maxEvents {
		d.dropped.Add(1)
		if !e.kept() {
			return false
		}
		i := slices.IndexFunc(d.mu.waiting, func(old *event) bool { return old.typ == e.typ })
		if i < 0 {
			i = slices.IndexFunc(d.mu.waiting, func(old *event) bool { return !old.kept() })
		}
		i = max(i, 0) // all of the other kind that is kept: the oldest
		d.mu.waiting = slices.Delete(d.mu.waiting, i, i+1)
	}
	d.mu.waiting = append(d.mu.waiting, e)
	if d.mu.running || d.mu.tasks == nil {
		return false
	}
	d.mu.running = true
	return true
}

// kept reports whether the latest event of the type is delivered in any case.
func (e *event) kept() bool {
	return e.typ == StateChangeEventType || e.typ == LeaderChangeEventType
}

// deliver calls listeners until no event waits.
func (d *eventDispatcher) deliver() {
	d.inside.enter(goroutineID())
	for {
		d.mu.Lock()
		if len(d.mu.waiting) == 0 {
			d.inside.leave() // before another goroutine may enter
			d.mu.running = false
			d.mu.Unlock()
			return
		}
		e := d.mu.waiting[0]
		d.mu.waiting = d.mu.waiting[1:]
		d.mu.Unlock()
		d.yield("event")
		for _, listener := range (*d.heard.Load())[e.typ] {
			listener(e)
		}
	}
}

// begin lets a run's goroutines deliver, those of events that came before too.
func (d *eventDispatcher) begin(t *tasks) {
	d.mu.Lock()
	d.mu.tasks = t
	start := len(d.mu.waiting) > 0 && !d.mu.running
	d.mu.running = d.mu.running || start
	d.mu.Unlock()
	if start {
		t.Go("events", d.deliver)
	}
}
