package wal

import "sort"

const (
	// markInterval is how many bytes of records one mark stands for, so that finding
	// an entry reads no more than that and the marks stay small.
	markInterval = 64 << 10
	// cursorCount is how many sequential readers find their place without a search:
	// more than a cluster has peers.
	cursorCount = 16
)

// mark is the place of a record: in seg at off, in a batch whose body ends at end.
// off = end says that the record is in the next batch of the segment.
type mark struct {
	index    uint64
	seg      *segment
	off, end int64
}

// view is what readers know of the log: what is in it, and where. Everything in it
// is durable.
//
// Marks are in the order of their indexes, and two invariants let a reader walk a
// file from a mark to the next one without meeting an entry that was superseded:
//
//   - the entries from one mark to the next lie in one segment, in order, with
//     nothing but empty batches between them;
//   - every live entry has a mark at or before it.
//
// Therefore the first records of a segment, and those that are written after a
// truncation, get a mark of their own.
type view struct {
	first, last uint64 // last = first-1 in an empty log
	commit      uint64
	generation  uint64 // counts the times that entries were taken away
	segments    []*segment
	marks       []mark
	cursors     [cursorCount]mark // where readers stopped; a zero index is none
	nextCursor  int
}

// cut takes away the entries from an index on.
func (v *view) cut(from uint64) {
	if from > v.last {
		return
	}
	keep := sort.Search(len(v.marks), func(i int) bool { return v.marks[i].index >= from })
	clear(v.marks[keep:])
	v.marks = v.marks[:keep]
	for i := range v.cursors {
		if v.cursors[i].index >= from {
			v.cursors[i] = mark{}
		}
	}
	v.last = from - 1
	v.first = min(v.first, from)
	v.generation++
}

// reset empties the log, which goes on with index next.
func (v *view) reset(next uint64) {
	v.cut(0)
	clear(v.cursors[:])
	v.first, v.last = next, next-1
	v.generation++
}

// drop forgets the oldest segment. It must not be the newest.
func (v *view) drop() {
	seg := v.segments[0]
	n := 0
	for n < len(v.marks) && v.marks[n].seg == seg {
		n++
	}
	v.marks = append(v.marks[:0], v.marks[n:]...)
	for i := range v.cursors {
		if v.cursors[i].seg == seg {
			v.cursors[i] = mark{}
		}
	}
	v.segments = append(v.segments[:0], v.segments[1:]...)
	v.first = v.last + 1
	if len(v.marks) > 0 {
		v.first = v.marks[0].index
	}
}

// endOfOldest is the index after the last entry that lives in the oldest segment.
func (v *view) endOfOldest() uint64 {
	for _, m := range v.marks {
		if m.seg != v.segments[0] {
			return m.index
		}
	}
	return v.last + 1
}

// find returns the nearest known place at or before an index within the log, and
// the last index that can be reached from there by reading on.
func (v *view) find(index uint64) (mark, uint64) {
	i := sort.Search(len(v.marks), func(i int) bool { return v.marks[i].index > index })
	place, reach := v.marks[i-1], v.last
	if i < len(v.marks) {
		reach = v.marks[i].index - 1
	}
	for _, c := range v.cursors {
		if c.index > place.index && c.index <= index {
			place = c
		}
	}
	return place, reach
}

// leave remembers where a reader stopped that began at from: in the place of the
// cursor that brought it there, or else of the oldest one.
func (v *view) leave(from uint64, c mark) {
	for i := range v.cursors {
		if v.cursors[i].index == from && from != 0 {
			v.cursors[i] = c
			return
		}
	}
	v.cursors[v.nextCursor] = c
	v.nextCursor = (v.nextCursor + 1) % cursorCount
}

// marker finds the marks of the batches that are written or recovered. It is the
// writer's.
type marker struct {
	seg   *segment // the segment of the last batch
	since int64    // bytes of records since the last mark
	force bool     // the next record needs a mark
	found []mark
}

// scan returns the marks of a batch of records, whose body, at file offset off, is
// given in pieces of whole records; cuts says that it replaces entries. The result is
// valid until the next call.
func (m *marker) scan(seg *segment, cuts bool, off int64, body ...[]byte) ([]mark, error) {
	m.found = m.found[:0]
	end := off
	for _, piece := range body {
		end += int64(len(piece))
	}
	if m.seg != seg || cuts {
		m.seg, m.force = seg, true
	}
	for _, rest := range body {
		for len(rest) > 0 {
			size := int64(len(rest))
			if !m.force && m.since+size < markInterval {
				m.since += size
				off += size
				break
			}
			r, after, err := NextRecord(rest)
			if err != nil {
				return nil, err
			}
			if m.force || m.since >= markInterval {
				m.found = append(m.found, mark{index: r.Index(), seg: seg, off: off, end: end})
				m.force, m.since = false, 0
			}
			rest = after
			m.since += int64(len(r))
			off += int64(len(r))
		}
	}
	return m.found, nil
}

// apply makes a durable batch part of the view.
func (v *view) apply(h *batchHeader, marks []mark) {
	v.commit = max(v.commit, h.commit)
	switch h.kind {
	case kindAppend:
		v.cut(h.first)
		v.marks = append(v.marks, marks...)
		v.last = h.first + uint64(h.count) - 1
	case kindTruncate:
		v.cut(h.first)
	case kindReset:
		v.reset(h.first)
	}
}
