package raft

import "slices"

// entryID names an entry: no two entries of a cluster share one (§5.3).
type entryID struct{ index, term uint64 }

// newerThan reports whether a log that ends with id is more up to date than one
// that ends with other: the later term decides, then the longer log (§5.4.1).
func (id entryID) newerThan(other entryID) bool {
	if id.term != other.term {
		return id.term > other.term
	}
	return id.index > other.index
}

// history is the terms of a log's entries: what the rules need to know of it. It
// costs memory per term, not per entry. Copies share their runs; the methods
// that change a history never change what a copy sees.
type history struct {
	base entryID   // the entry before the first one: {0, 0}, or a snapshot's last
	end  uint64    // index of the last entry
	runs []termRun // ascending; each holds until the next begins
}

// termRun is a stretch of entries of one term.
type termRun struct{ first, term uint64 }

// last is the ID of the last entry, or of the one before the first.
func (h *history) last() entryID {
	return entryID{h.end, h.termAt(h.end)}
}

// termAt returns the term of the entry at index, or 0 if the log does not hold
// it; the entry just before the first still has its term.
func (h *history) termAt(index uint64) uint64 {
	if index == h.base.index {
		return h.base.term
	}
	if index < h.base.index || index > h.end {
		return 0
	}
	return h.runs[h.runAt(index)].term
}

// holds reports whether the log holds this very entry.
func (h *history) holds(id entryID) bool {
	return id.index >= h.base.index && id.index <= h.end && h.termAt(id.index) == id.term
}

// runAt returns the position of the run that index lies in.
func (h *history) runAt(index uint64) int {
	i, found := slices.BinarySearchFunc(h.runs, index, func(r termRun, index uint64) int {
		switch {
		case r.first < index:
			return -1
		case r.first > index:
			return 1
		}
		return 0
	})
	if found {
		return i
	}
	return i - 1
}

// append adds count entries of term after the last one.
func (h *history) append(term, count uint64) {
	if count == 0 {
		return
	}
	if n := len(h.runs); n == 0 || h.runs[n-1].term != term {
		h.runs = append(slices.Clip(h.runs), termRun{h.end + 1, term})
	}
	h.end += count
}

// extend adds an entry of term to a history that has no copies, as while a log is
// read: it costs the same however many terms there were.
func (h *history) extend(term uint64) {
	h.end++
	if n := len(h.runs); n == 0 || h.runs[n-1].term != term {
		h.runs = append(h.runs, termRun{h.end, term})
	}
}

// truncate drops the entries from index on.
func (h *history) truncate(index uint64) {
	if index > h.end {
		return
	}
	h.end = max(index, h.base.index+1) - 1
	n := len(h.runs)
	for n > 0 && h.runs[n-1].first > h.end {
		n--
	}
	h.runs = slices.Clip(h.runs[:n])
}

// compact drops the entries up to and including id, which a snapshot replaces.
func (h *history) compact(id entryID) {
	if id.index <= h.base.index {
		return
	}
	if id.index >= h.end {
		*h = history{base: id, end: id.index}
		return
	}
	i := h.runAt(id.index + 1)
	runs := slices.Clone(h.runs[i:])
	runs[0].first = max(runs[0].first, id.index+1)
	h.base, h.runs = id, runs
}

// runEnd returns the term of the entry at index, which the log holds, and the
// last index of the run that it lies in.
func (h *history) runEnd(index uint64) (term, end uint64) {
	i := h.runAt(index)
	if i+1 < len(h.runs) {
		return h.runs[i].term, h.runs[i+1].first - 1
	}
	return h.runs[i].term, h.end
}

// firstConflict returns the first index at which b, which begins within this
// log or right behind it, has an entry that this log has not: behind the end,
// or of another term. It is b.end+1 if there is none.
func (h *history) firstConflict(b *history) uint64 {
	i := max(b.base.index, h.base.index) + 1
	for i <= b.end && i <= h.end {
		ours, ourEnd := h.runEnd(i)
		theirs, theirEnd := b.runEnd(i)
		if ours != theirs {
			return i
		}
		i = min(ourEnd, theirEnd) + 1
	}
	return i
}

// lastShared returns the last entry no later than id in index and in term. A log
// that holds id can share no later entry with this one: entries of one term are
// in the order in which their leader made them (§5.3). Of a log that ends before
// this one begins nothing is known: it is id itself.
func (h *history) lastShared(id entryID) entryID {
	if id.index < h.base.index {
		return id
	}
	for i := len(h.runs) - 1; i >= 0; i-- {
		if h.runs[i].first > id.index || h.runs[i].term > id.term {
			continue
		}
		_, end := h.runEnd(h.runs[i].first)
		return entryID{min(end, id.index), h.runs[i].term}
	}
	return h.base
}
