package raft

import (
	"math/rand/v2"
	"testing"
)

// search has a leader bring a follower in line, with messages that carry nothing
// until one is accepted. It returns the round trips that took.
func search(t *testing.T, leader history, follower *replica) int {
	t.Helper()
	p := newProgress(leader.end + 1)
	for round := 1; ; round++ {
		prev := entryID{p.next - 1, leader.termAt(p.next - 1)}
		sequence := p.sent(p.next-1, 0)
		answer := appendTo(t, follower, 1000, prev, 0)
		if answer.success {
			p.accepted(sequence, answer.match)
			if p.next != prev.index+1 || p.matched != prev.index {
				t.Fatalf("%+v after %+v", p, answer)
			}
			return round
		}
		before := p.next
		p.refused(sequence, prev.index, leader.lastShared(answer.hint).index)
		if p.next >= before {
			t.Fatalf("next stays at %d after a refusal of %v with the hint %v", p.next, prev, answer.hint)
		}
	}
}

// shared is how long the two logs' common beginning is.
func shared(a, b *history) uint64 {
	n := uint64(0)
	for n < a.end && n < b.end && a.termAt(n+1) == b.termAt(n+1) {
		n++
	}
	return n
}

// TestFault034_SearchByTerm: 300,000 entries in conflict, of three terms, are
// found in five round trips.
func TestFault034_SearchByTerm(t *testing.T) {
	const common, divergent = 1000, 300_000
	var mine, theirs history
	mine.append(1, common)
	theirs.append(1, common)
	for term := uint64(2); term < 8; term += 2 {
		mine.append(term, divergent/3)
		theirs.append(term+1, divergent/3)
	}
	for name, c := range map[string]struct{ leader, follower history }{
		"terms in turns":          {theirs, mine},
		"terms in turns, swapped": {mine, theirs},
		"all older":               {theirs, grown(1, common, 2, divergent)},
		"the leader's is short":   {grown(1, common, 9, 1), mine},
		"the follower's is short": {mine, grown(1, 3)},
		"one term against three":  {grown(1, common, 9, divergent), theirs},
		"three against one":       {theirs, grown(1, common, 2, divergent)},
		"an empty follower":       {mine, history{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplica("s", identity{clusterID: 9}, ballot{})
			r.log = c.follower
			if rounds := search(t, c.leader, r); rounds > 3+2 {
				t.Errorf("%d round trips", rounds)
			}
		})
	}
}

// grown is a log of so many entries of each term: term, count, term, count …
func grown(pairs ...uint64) history {
	var h history
	for i := 0; i < len(pairs); i += 2 {
		h.append(pairs[i], pairs[i+1])
	}
	return h
}

// TestFault034_RandomLogs: two logs that share a beginning and then belong to
// different leaders; the search takes no more round trips than the log with the
// fewer terms has, and two, and never ends beyond what is shared.
func TestFault034_RandomLogs(t *testing.T) {
	for seed := range uint64(5000) {
		rng := rand.New(rand.NewPCG(seed, 34))
		var mine, theirs history
		term := uint64(1)
		for range rng.IntN(4) {
			n := 1 + rng.Uint64N(5)
			mine.append(term, n)
			theirs.append(term, n)
			term += 1 + rng.Uint64N(2)
		}
		if mine.end > 0 && rng.IntN(2) == 0 { // one of them has more of the last common term
			mine.append(mine.last().term, rng.Uint64N(4))
		}
		myTerms, theirTerms := 0, 0
		for range rng.IntN(12) {
			if n := 1 + rng.Uint64N(6); rng.IntN(2) == 0 {
				mine.append(term, n)
				myTerms++
			} else {
				theirs.append(term, n)
				theirTerms++
			}
			term++
		}
		for _, way := range []struct{ leader, follower history }{{mine, theirs}, {theirs, mine}} {
			r := newReplica("s", identity{clusterID: 9}, ballot{})
			r.log = way.follower
			if rounds := search(t, way.leader, r); rounds > min(myTerms, theirTerms)+2 {
				t.Fatalf("seed %d: %d round trips for %d and %d terms\n%v\n%v", seed, rounds, myTerms, theirTerms, mine, theirs)
			}
			if n := shared(&way.leader, &way.follower); r.log.end != way.follower.end || r.log.firstConflict(&way.leader) != n+1 {
				t.Fatalf("seed %d: first conflict %d, shared %d", seed, r.log.firstConflict(&way.leader), n)
			}
		}
	}
}

// TestFault041_BatchesAreBounded: an empty follower and a million entries: no
// message asks for more than a batch, and no more is under way than the window.
func TestFault041_BatchesAreBounded(t *testing.T) {
	const entries = 1_000_000
	for _, size := range []int{1, 150, 4000, maxBatchBytes / 2, maxBatchBytes} {
		p := newProgress(1)
		for p.next <= entries/uint64(size)+1000 {
			for p.maySend() {
				if len(p.window) >= maxInFlight || len(p.window) > 0 && p.bytes >= maxInFlightBytes {
					t.Fatalf("size %d: more may be sent with %d requests and %d bytes under way", size, len(p.window), p.bytes)
				}
				room := p.room()
				if room > maxBatchBytes || room < 1 {
					t.Fatalf("size %d: room for %d bytes", size, room)
				}
				count := max(1, room/size) // at least one entry, however large
				p.sent(p.next-1+uint64(count), count*size)
				if limit := maxInFlightBytes + maxBatchBytes; p.bytes > limit {
					t.Fatalf("size %d: %d bytes under way", size, p.bytes)
				}
			}
			oldest := p.window[0]
			p.accepted(oldest.sequence, oldest.last)
		}
	}
	// While it searches, one at a time.
	p := newProgress(1000)
	p.refused(p.sent(1000, 100), 999, 10)
	p.sent(20, 100)
	if p.maySend() {
		t.Error("two requests while searching")
	}
}
