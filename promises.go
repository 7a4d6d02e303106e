package raft

import "slices"

// promise is an answer that waits for what it promises to be durable.
type promise struct {
	needs     uint64 // the order that must be carried out
	responder appendResponder
	response  *AppendEntriesResponse
	deliver   func() // in place of the two, for other answers
	drop      func() // tells who waits that there will be no answer; nil if nobody need know
	own       bool   // somebody in this server waits for it: it is never shed
}

// maxPromises is how many answers may wait. A disk that is full or stalled for
// long keeps them waiting while others come, and the newest say all that the
// oldest would: a sender that has waited so long has asked again.
const maxPromises = 4096

func (p *promise) kept() {
	if p.deliver != nil {
		p.deliver()
		return
	}
	p.responder.answerAppend(p.response)
}

// promises are the answers that wait. Those that promise a term or a vote wait
// for the ballot only; those that promise entries for the entries as well.
type promises struct {
	ballots []promise
	entries []promise
	bound   [2]int // how many at the front know what they need
}

// bind tells the promises of this turn which orders they need.
func (p *promises) bind(ballot, entries uint64) {
	p.ballots, p.bound[0] = shed(p.ballots, p.bound[0])
	p.entries, p.bound[1] = shed(p.entries, p.bound[1])
	for i := p.bound[0]; i < len(p.ballots); i++ {
		p.ballots[i].needs = ballot
	}
	for i := p.bound[1]; i < len(p.entries); i++ {
		p.entries[i].needs = entries
	}
	p.bound = [2]int{len(p.ballots), len(p.entries)}
}

// shed drops the oldest answers when too many wait, as if they had been lost on
// the way: who called returns without one. bound is how many at the front know what they need, before and after.
func shed(waiting []promise, bound int) ([]promise, int) {
	if len(waiting) <= maxPromises {
		return waiting, bound
	}
	excess, seen := len(waiting)-maxPromises/2, 0
	left := bound
	waiting = slices.DeleteFunc(waiting, func(w promise) bool {
		seen++
		if w.own || excess == 0 {
			return false
		}
		excess--
		if w.drop != nil {
			w.drop()
		}
		if seen <= bound {
			left--
		}
		return true
	})
	return waiting, left
}

// keep gives the answers whose orders are carried out.
func (p *promises) keep(written uint64) {
	p.ballots = keep(p.ballots, written)
	p.entries = keep(p.entries, written)
	p.bound = [2]int{len(p.ballots), len(p.entries)}
}

func keep(waiting []promise, written uint64) []promise {
	n := 0
	for n < len(waiting) && waiting[n].needs <= written {
		waiting[n].kept()
		n++
	}
	return slices.Delete(waiting, 0, n)
}

// withdraw takes back the answers that promise an entry from index on, which is
// no longer there, and returns them.
func (p *promises) withdraw(index uint64) []promise {
	var withdrawn []promise
	kept, bound := p.entries[:0], 0
	for i, e := range p.entries {
		if e.response.index >= index {
			withdrawn = append(withdrawn, e)
			continue
		}
		if i < p.bound[1] {
			bound++
		}
		kept = append(kept, e)
	}
	clear(p.entries[len(kept):])
	p.entries, p.bound[1] = kept, bound
	return withdrawn
}
