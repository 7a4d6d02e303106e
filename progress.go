package raft

import "slices"

// progress is one follower as its sender sees it: a guess at what to send next,
// and what is under way. The guess may be wrong at no cost but time; what the
// follower is known to store is the leader's matchIndex, kept elsewhere.
type progress struct {
	next    uint64 // index of the first entry not yet sent
	matched uint64 // the follower has said that it shares the log, and stores it, up to here
	vouched uint64 // the sequence of the last request sent before it said so
	// probing is the state after a refusal or a loss: one request at a time,
	// until one succeeds.
	probing  bool
	window   []flight // under way with entries, oldest first
	bytes    int      // of entries in the window
	sequence uint64   // of the last request sent
	restarts uint64   // the sequence that was the last at the last refusal or loss
}

// flight is a request under way.
type flight struct {
	sequence uint64
	first    uint64 // index of its first entry
	last     uint64 // and of its last
	bytes    int
}

func newProgress(next uint64) progress { return progress{next: next} }

// maySend reports whether a request with entries may leave now: one while
// probing, else what the window holds by number and bytes. The first may be as
// large as it must.
func (p *progress) maySend() bool {
	if p.probing {
		return len(p.window) == 0
	}
	return len(p.window) == 0 || len(p.window) < maxInFlight && p.bytes < maxInFlightBytes
}

// room is the number of bytes that the next request may carry.
func (p *progress) room() int { return max(1, min(maxBatchBytes, maxInFlightBytes-p.bytes)) }

// sent takes notice of a request with the entries from next to last, and
// returns its sequence number. A heartbeat carries none: last is next-1.
func (p *progress) sent(last uint64, bytes int) uint64 {
	p.sequence++
	if last >= p.next {
		p.window = append(p.window, flight{p.sequence, p.next, last, bytes})
		p.bytes += bytes
		p.next = last + 1
	}
	return p.sequence
}

// accepted takes the follower's word that it shares and stores the log up to
// match, in answer to the request of that sequence.
func (p *progress) accepted(sequence, match uint64) {
	if match > p.matched {
		p.matched, p.vouched = match, p.sequence
	}
	p.next = max(p.next, p.matched+1)
	p.landed(func(f flight) bool { return f.sequence == sequence || f.last <= match })
	p.probing = false
}

// refused takes the follower's word that it lacks prev, the entry before the
// request's first; shared is the last entry that the leader's log and the
// follower's may still have in common. A refusal of what the follower has
// since accepted, or of what was sent before the last restart, is late and says
// nothing.
func (p *progress) refused(sequence, prev, shared uint64) {
	if prev <= p.matched || sequence <= p.restarts {
		return
	}
	p.next = max(p.matched, min(shared, prev-1)) + 1
	p.restart()
}

// forgotten reports whether the follower, whose log ends there in answer to the
// request of that sequence, has lost what it had said that it stores. It never
// drops such entries while the leader's term lasts, so it does not keep its
// promises: its disk was put back to an older state, or lost its end. A request
// that left before the promise was heard of proves nothing: it may have been
// answered first.
func (p *progress) forgotten(sequence, end uint64) bool {
	return end < p.matched && p.vouched < sequence && sequence <= p.sequence
}

// forgot begins anew with a follower that has lost entries; shared is the last
// entry that the logs may still have in common.
func (p *progress) forgot(shared uint64) {
	p.next = min(shared, p.matched-1) + 1
	p.matched, p.vouched = 0, p.sequence
	p.restart()
}

// shared takes the follower's word that it has a snapshot up to index: what comes
// next is to be sent. Its word for the log is still to come.
func (p *progress) shared(index uint64) {
	p.next = max(p.next, index+1)
	p.restart()
}

// lost forgets what is under way: the connection broke, or an answer is overdue.
// It is to be sent again; what the guess was before it stays as good as it was.
func (p *progress) lost() {
	if len(p.window) > 0 {
		p.next = max(p.matched+1, p.window[0].first)
	}
	p.restart()
}

func (p *progress) restart() {
	p.probing, p.restarts = true, p.sequence
	p.window, p.bytes = p.window[:0], 0
}

func (p *progress) landed(done func(flight) bool) {
	p.window = slices.DeleteFunc(p.window, func(f flight) bool {
		if done(f) {
			p.bytes -= f.bytes
			return true
		}
		return false
	})
}
