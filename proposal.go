package raft

import (
	"context"
	"sync"
)

// proposal is a command on its way through the log and back to its caller.
// Whoever holds it alone may change it: the caller, then the event loop, then
// the applier.
type proposal struct {
	record []byte  // nil when the log has taken it
	size   int     // of the record
	id     entryID // given by the event loop
	done   chan result
	home   *proposalPool
}

// result is what became of a proposal.
type result struct {
	value interface{}
	err   error // what Apply returned, or a *CommandError
}

// proposalPool keeps a server's proposals for use again. Each server has its own,
// because a channel must not leave the testing/synctest bubble it was made in.
type proposalPool struct{ pool sync.Pool }

func (l *proposalPool) get() *proposal {
	if p, ok := l.pool.Get().(*proposal); ok {
		return p
	}
	return &proposal{done: make(chan result, 1), home: l}
}

// carry gives the proposal its command.
func (p *proposal) carry(record []byte) { p.record, p.size = record, len(record) }

// answer gives the caller its result; the proposal is the caller's again.
func (p *proposal) answer(value interface{}, err error) { p.done <- result{value, err} }

// fail tells the caller that the command was not, or may not have been, applied.
func (p *proposal) fail(cause, outcome error) { p.answer(nil, failure(cause, outcome)) }

// wait returns the proposal's result, or the end of the context. A proposal that
// was given up belongs to the loops for good: its answer goes to nobody. There is
// always an answer: what has none when the event loop ends is failed by it.
func (p *proposal) wait(ctx context.Context) (interface{}, error) {
	var r result
	if done := ctx.Done(); done == nil {
		r = <-p.done // far cheaper than a select
	} else {
		select {
		case r = <-p.done:
		case <-done:
			return nil, contextFailure(ctx, ErrOutcomeUnknown)
		}
	}
	p.release()
	return r.value, r.err
}

// keptRecordBytes bounds the buffers that wait in the pool.
const keptRecordBytes = 64 << 10

func (p *proposal) release() {
	if cap(p.record) > keptRecordBytes {
		p.record = nil
	}
	p.record, p.size, p.id = p.record[:0], 0, entryID{}
	p.home.pool.Put(p)
}
