package raft

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/wal"
)

// applyBatchBytes is how much of the log the applier reads at once.
const applyBatchBytes = 1 << 20

// committed is a range of the log that may be applied. Between two ranges the
// applier may be asked for something else.
type committed struct {
	index uint64
	view  logView

	save    chan error      // take a snapshot, and say what became of it
	restore *snapshot.Label // put this snapshot in the place of the state
}

// entries reports whether the item is a range, and nothing else.
func (c *committed) entries() bool { return c.save == nil && c.restore == nil }

// applier owns the state machine: it applies committed entries in the order of
// the log, one at a time, on one goroutine, and answers their callers. Between two
// entries it takes snapshots, and restores them.
type applier struct {
	home     *run
	server   Server // as commands see it
	registry *Registry
	events   *eventDispatcher
	ranges   *queue[committed]
	callers  *queue[*proposal] // that wait for committed entries, in the order of the log
	waiting  atomic.Int64      // how many of those there are, before they can be seen
	reads    *queue[*read]     // that know what they wait for
	looking  looking
	left     chan struct{} // holds a token when the last of those who look has left
	inside   callerID      // the goroutine that calls Apply
	applied  atomic.Uint64
	// jump is the last entry of a snapshot that is to be restored: what was given
	// before and is not applied yet will not be.
	jump atomic.Uint64
	// ownTerm is called when the first entry of a leader's term has been
	// applied, halted once, when an entry cannot be.
	ownTerm   func(term uint64)
	halted    func(*HaltError)
	intended  func([]intent) // is called with the intents that wait, after each change
	halt      *HaltError
	term      uint64       // of the last entry applied
	cluster   clusterState // of the entries applied
	size      logSize      // of all that was applied in this run
	tried     logSize      // when a snapshot was begun last
	saved     atomic.Pointer[savedState]
	applying  bool         // a command's Apply is at work, not Save or Recovery
	requeued  bool         // its intents may have changed since they were told
	context   applyContext // of the entry being applied, used again for the next
	goroutine uint64       // that applies: run's, or Init's before it
}

// run applies what it is given until the queue is closed and empty.
func (a *applier) run() {
	a.goroutine = goroutineID()
	var ranges []committed
	for {
		select {
		case <-a.reads.ready:
			a.admit()
			continue
		case <-a.ranges.ready:
		}
		closed := a.ranges.closed()
		ranges = a.ranges.take(ranges)
		for i := range ranges {
			// After Stop nothing more is applied: Stop would have to wait for it.
			switch c := &ranges[i]; {
			case closed:
			case c.save != nil:
				a.take(c.save)
			case c.restore != nil:
				a.restore(*c.restore)
			default:
				a.apply(*c)
				a.takeIfDue()
			}
			a.admit()
		}
		if closed {
			a.excludeAll()
			return
		}
	}
}

// failAll tells callers that their outcome is unknown.
func failAll(proposals []*proposal, cause error) {
	for _, p := range proposals {
		p.fail(cause, ErrOutcomeUnknown)
	}
}

// apply applies a range, as far as it goes.
func (a *applier) apply(c committed) {
	for a.halt == nil && a.applied.Load() < c.index && !a.interrupted() {
		records, _, err := c.view.read(a.applied.Load()+1, c.index, applyBatchBytes)
		if a.interrupted() {
			break // the store may be closed, or begun anew
		}
		if err != nil {
			a.stop(&HaltError{Index: a.applied.Load() + 1, Cause: err})
			break
		}
		a.applyRecords(records)
	}
	for {
		p, ok := a.caller(c.index)
		if !ok {
			return
		}
		switch {
		case a.halt != nil:
			p.answer(nil, &CommandError{Cause: ErrLeadershipLost, Outcome: ErrOutcomeUnknown, detail: a.halt})
		case a.ranges.closed():
			p.fail(StopError, ErrOutcomeUnknown)
		default:
			p.fail(ErrLeadershipLost, ErrOutcomeUnknown) // a snapshot covers it: applied, with what result nobody knows
		}
	}
}

// caller returns the next one who waits for an entry up to index. It is the only
// one who answers it.
func (a *applier) caller(index uint64) (*proposal, bool) {
	if a.waiting.Load() == 0 {
		return nil, false
	}
	p, ok := a.callers.pop(func(p *proposal) bool { return p.id.index <= index })
	if ok {
		a.waiting.Add(-1)
	}
	return p, ok
}

// interrupted reports whether the range at hand is not to be applied further.
func (a *applier) interrupted() bool { return a.ranges.closed() || a.jump.Load() > a.applied.Load() }

// applyRecords applies entries and answers their callers.
func (a *applier) applyRecords(records []byte) {
	began, before := time.Now(), a.applied.Load()
	defer func() {
		if n := a.applied.Load() - before; n > 0 {
			a.home.applyLatency.observe(time.Since(began) / time.Duration(n))
		}
	}()
	for len(records) > 0 && !a.interrupted() {
		record, rest, err := wal.NextRecord(records)
		if err != nil {
			a.stop(&HaltError{Index: a.applied.Load() + 1, Cause: err})
			return
		}
		records = rest
		if a.looking.due(a.applied.Load(), a.reads) {
			a.admit()
		}
		a.exclude()
		a.home.yield("apply")
		value, err := a.applyRecord(record)
		if a.halt != nil {
			return
		}
		a.term = record.Term()
		a.applied.Store(record.Index())
		a.size.add(len(record))
		a.home.yield("applied")
		a.tellIntents()
		a.answer(record.Index(), value, err)
	}
}

// answer gives the result of an entry to who waits for it, and to nobody else.
func (a *applier) answer(index uint64, value interface{}, err error) {
	for {
		switch p, ok := a.caller(index); {
		case !ok:
			return
		case p.id.index == index:
			p.answer(value, err)
			return
		default:
			p.fail(ErrLeadershipLost, ErrOutcomeUnknown)
		}
	}
}

// applyRecord applies one entry and returns what its command says.
func (a *applier) applyRecord(record wal.Record) (interface{}, error) {
	if a.events.listens(CommitEventType) {
		a.events.dispatch(CommitEventType, newLogEntry(record), nil)
	}
	switch record.Kind() {
	case kindCommand:
		return a.applyCommand(record)
	case kindConfiguration:
		c, err := decodeConfiguration(record.Data(), record.Index())
		if err != nil {
			a.stop(&HaltError{Index: record.Index(), Command: string(record.Name()), Cause: err})
			return nil, nil
		}
		a.requeued = a.requeued || len(a.cluster.intents) > 0
		a.cluster = a.cluster.with(c)
		a.ownTerm(record.Term())
		return nil, nil
	case kindNOP:
		a.ownTerm(record.Term())
		return nil, nil
	}
	a.stop(&HaltError{Index: record.Index(), Command: string(record.Name()), Cause: fmt.Errorf("unknown kind of entry %d", record.Kind())})
	return nil, nil
}

// applyCommand decodes the entry's command, as every server does, and applies
// it. What Apply returns is the command's result, an error too. What cannot be
// decoded, or panics, is no result: to skip it would make this server differ
// from the others, so apply halts.
func (a *applier) applyCommand(record wal.Record) (value interface{}, err error) {
	command, err := a.registry.decode(record)
	if err != nil {
		a.stop(&HaltError{Index: record.Index(), Command: string(record.Name()), Cause: err})
		return nil, nil
	}
	a.context = applyContext{server: a.server, term: record.Term(), index: record.Index()}
	a.inside.enter(a.goroutine)
	defer a.inside.leave()
	a.applying = true
	defer func() {
		a.applying = false
		if cause := recover(); cause != nil {
			a.stop(&HaltError{
				Index: record.Index(), Command: string(record.Name()),
				Cause: fmt.Errorf("%w: %v", errPanic, cause), Stack: string(debug.Stack()),
			})
		}
	}()
	return applyCommand(command, &a.context)
}

var errPanic = errors.New("Apply panicked")

func (a *applier) stop(halt *HaltError) {
	a.halt = halt
	a.halted(halt)
}

// intend queues what Apply asks for by AddPeer or RemovePeer, on every server
// alike; the leader of the day carries it out.
func (a *applier) intend(c *change) error {
	if !a.applying {
		return ErrReentrant
	}
	next, known := a.cluster, true
	if c.leave {
		next, known = next.remove(a.context.index, c.name)
	} else {
		next = next.add(a.context.index, c.name, c.connectionString)
	}
	switch {
	case !known:
		return peerNotFound(c.name)
	case len(next.intents) > maxIntents:
		return ErrTooManyMembers
	}
	a.cluster = next
	a.requeued = true
	return nil
}

// tellIntents tells the event loop what waits, if that may have changed.
func (a *applier) tellIntents() {
	if a.requeued {
		a.requeued = false
		a.intended(a.cluster.intents)
	}
}
