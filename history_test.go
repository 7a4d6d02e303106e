package raft

import (
	"math/rand/v2"
	"testing"
)

// listed is a history and the plain list of its terms.
type listed struct {
	history
	terms []uint64
}

// grow, cut and drop do the same to both.
func (l *listed) grow(term, count uint64) {
	l.append(term, count)
	for range count {
		l.terms = append(l.terms[:len(l.terms):len(l.terms)], term)
	}
}

// extended is the same history, read entry by entry.
func (l *listed) extended() history {
	h := history{base: l.base, end: l.base.index}
	for _, term := range l.terms {
		h.extend(term)
	}
	return h
}

func (l *listed) cut(from uint64) {
	l.truncate(from)
	if n := max(from, l.base.index+1) - l.base.index - 1; n < uint64(len(l.terms)) {
		l.terms = l.terms[:n]
	}
}

func (l *listed) drop(count uint64) {
	l.compact(entryID{l.base.index + count, l.terms[count-1]})
	l.terms = l.terms[count:]
}

func (l *listed) check(t *testing.T, what string) {
	t.Helper()
	if l.end != l.base.index+uint64(len(l.terms)) {
		t.Fatalf("%s: ends at %d, not %d behind %d", what, l.end, len(l.terms), l.base.index)
	}
	for i, term := range l.terms {
		index := l.base.index + uint64(i) + 1
		if got := l.termAt(index); got != term || !l.holds(entryID{index, term}) || l.holds(entryID{index, term + 1}) {
			t.Fatalf("%s: term %d at %d, not %d", what, got, index, term)
		}
		if got, end := l.runEnd(index); got != term || end < l.end && l.termAt(end+1) == term || l.termAt(end) != term {
			t.Fatalf("%s: the run at %d is of term %d to %d", what, index, got, end)
		}
	}
	if l.termAt(l.end+1) != 0 || l.base.index > 0 && l.termAt(l.base.index-1) != 0 || l.termAt(l.base.index) != l.base.term {
		t.Fatalf("%s: terms beyond the ends", what)
	}
}

// TestHistory holds the runs of a history against the plain list of terms, and
// copies against what they were when they were made.
func TestHistory(t *testing.T) {
	for seed := range scale(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var l listed
		var copies []listed
		term := uint64(1)
		for range 60 {
			if copies = append(copies, l); rng.IntN(3) == 0 {
				l = copies[rng.IntN(len(copies))] // go on from an older one
				term = max(term, l.last().term)
			}
			switch n := uint64(len(l.terms)); {
			case rng.IntN(2) == 0:
				term += rng.Uint64N(2)
				l.grow(max(term, l.last().term), rng.Uint64N(4))
			case rng.IntN(2) == 0:
				l.cut(l.base.index + rng.Uint64N(n+3))
			case n > 0 && rng.IntN(3) == 0:
				l.drop(1 + rng.Uint64N(n))
			}
			l.check(t, "now")
			read := listed{l.extended(), l.terms}
			read.check(t, "as it is read")
			for _, c := range copies {
				c.check(t, "a copy")
			}
		}
	}
}
