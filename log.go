package raft

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/goraft/raft/internal/wal"
)

// chunkBytes is the size of the arenas that records lie in. A leader copies each
// command into one, the reader of a stream reads right into one; of what comes in
// other ways, pieces of at least ownChunkBytes are kept as they are.
const (
	chunkBytes    = 256 << 10
	ownChunkBytes = 32 << 10
)

// chunk is records that lie one behind the other in memory. Bytes and offsets
// only grow: what a copy of the chunk shows never changes.
type chunk struct {
	first   uint64
	bytes   []byte
	offsets []uint32 // where each record begins
}

func (c *chunk) last() uint64 { return c.first + uint64(len(c.offsets)) - 1 }

// from returns the bytes of the records from index on, no further than to and
// limit, but at least one.
func (c *chunk) from(index, to uint64, limit int) ([]byte, uint64) {
	i := int(index - c.first)
	start := int(c.offsets[i])
	end := func(i int) int {
		if i+1 < len(c.offsets) {
			return int(c.offsets[i+1])
		}
		return len(c.bytes)
	}
	last := min(len(c.offsets)-1, int(to-c.first))
	if end(last)-start > limit {
		last = i + max(0, fitting(c.offsets[i+1:last+1], start+limit)-1)
	}
	return c.bytes[start:end(last):end(last)], c.first + uint64(last)
}

// fitting counts the records that end within limit, given where the ones behind
// them begin.
func fitting(ends []uint32, limit int) int {
	n, found := slices.BinarySearch(ends, uint32(limit))
	if found {
		n++
	}
	return n
}

// tail is the end of the log in memory. Its owner, the event loop, appends and
// truncates; a copy of it is a view that never changes.
type tail struct {
	full []*chunk // no longer appended to
	open chunk    // the last one
	own  bool     // what lies behind the open chunk's bytes is free for more of them
	size int      // bytes in full
}

// first returns the index of the first record in memory, or 0 if there is none.
func (t *tail) first() uint64 {
	if len(t.full) > 0 {
		return t.full[0].first
	}
	if len(t.open.offsets) > 0 {
		return t.open.first
	}
	return 0
}

// append adds records that begin at index and returns the bytes as they now lie
// in memory for good, for the disk and the wire. They are kept if they are large, or
// if there is room behind them: an arena, in which the next ones will lie. Others
// are copied.
func (t *tail) append(index uint64, records []byte, offsets []uint32) []byte {
	start := len(t.open.bytes)
	switch {
	case follows(t.open.bytes, records):
		t.open.bytes = t.open.bytes[:start+len(records)]
	case len(records) >= ownChunkBytes:
		t.seal()
		t.full = append(t.full, &chunk{first: index, bytes: records, offsets: offsets})
		t.size += len(records)
		return records
	case len(records) < cap(records):
		t.seal()
		t.open = chunk{first: index, bytes: records, offsets: offsets}
		return records
	default:
		t.reserve(index, len(records))
		start = len(t.open.bytes)
		t.open.bytes = append(t.open.bytes, records...)
	}
	for _, o := range offsets {
		t.open.offsets = append(t.open.offsets, uint32(start)+o)
	}
	return t.open.bytes[start:]
}

// follows reports whether b lies right behind a in memory, in the room that a has.
func follows(a, b []byte) bool {
	return len(b) > 0 && cap(a)-len(a) >= len(b) && &a[:len(a)+1][len(a)] == &b[0]
}

// stage appends one record, gives it its place in the log, and returns its bytes
// like append. It copies a small one and keeps a large one.
func (t *tail) stage(record []byte, id entryID, seed uint32) []byte {
	if len(record) >= ownChunkBytes {
		wal.Record(record).Stamp(id.index, id.term, seed)
		if cap(record) > len(record)+len(record)/4 {
			record = slices.Clone(record) // rather than hold so much for nothing
		}
		return t.append(id.index, slices.Clip(record), []uint32{0})
	}
	t.reserve(id.index, len(record))
	start := len(t.open.bytes)
	t.open.bytes = append(t.open.bytes, record...)
	t.open.offsets = append(t.open.offsets, uint32(start))
	wal.Record(t.open.bytes[start:]).Stamp(id.index, id.term, seed)
	return t.open.bytes[start:]
}

// reserve makes room in the open chunk for n bytes that begin at index.
func (t *tail) reserve(index uint64, n int) {
	if t.open.bytes != nil && (!t.own || len(t.open.bytes)+n > cap(t.open.bytes)) {
		t.seal()
	}
	if t.open.bytes == nil {
		t.open = chunk{first: index, bytes: make([]byte, 0, max(chunkBytes, n)), offsets: make([]uint32, 0, 256)}
		t.own = true
	}
}

// seal ends the open chunk. One that fills little of its memory gets its own, so
// that many of them, each from a stream that broke, keep no arenas alive.
func (t *tail) seal() {
	if len(t.open.offsets) > 0 {
		done := t.open
		if cap(done.bytes) > 2*len(done.bytes) {
			done.bytes = bytes.Clone(done.bytes)
		}
		t.full = append(t.full, &done)
		t.size += len(done.bytes)
	}
	t.open, t.own = chunk{}, false
}

// truncate drops the records from index on. It never writes to a chunk that a
// view shares.
func (t *tail) truncate(index uint64) {
	t.seal()
	n := len(t.full)
	for n > 0 && t.full[n-1].first >= index {
		n--
		t.size -= len(t.full[n].bytes)
	}
	t.full = slices.Clone(t.full[:n])
	if n == 0 || t.full[n-1].last() < index {
		return
	}
	cut := *t.full[n-1]
	at := int(index - cut.first)
	t.size -= len(cut.bytes) - int(cut.offsets[at])
	end := cut.offsets[at]
	cut.bytes, cut.offsets = cut.bytes[:end:end], cut.offsets[:at:at]
	t.full[n-1] = &cut
}

// trim drops chunks from the front, while more than limit bytes are held and all
// of a chunk's records are at or below durable.
func (t *tail) trim(limit int, durable uint64) {
	n, size := 0, t.size
	for n < len(t.full) && size > limit && t.full[n].last() <= durable {
		size -= len(t.full[n].bytes)
		n++
	}
	if n > 0 {
		t.full, t.size = slices.Clone(t.full[n:]), size
	}
}

// read returns records from index on, no further than to and limit but at least
// one, and the index of the last; nil if memory does not hold the first.
func (t *tail) read(index, to uint64, limit int) ([]byte, uint64) {
	if len(t.open.offsets) > 0 && index >= t.open.first {
		if index > t.open.last() {
			return nil, 0
		}
		return t.open.from(index, to, limit)
	}
	n, found := slices.BinarySearchFunc(t.full, index, func(c *chunk, index uint64) int {
		switch {
		case c.last() < index:
			return -1
		case c.first > index:
			return 1
		}
		return 0
	})
	if !found {
		return nil, 0
	}
	return t.full[n].from(index, to, limit)
}

// logView is the log as of one turn: it never changes, but for what the disk
// holds, which is therefore checked when it is read.
type logView struct {
	terms history
	tail  tail
	store *wal.Store
}

// errUnreadable says that the disk does not give back what was written to the log.
var errUnreadable = errors.New("raft: the log cannot be read")

// read returns whole records from index on, no further than to and limit but at
// least one, and the index of the last. Entries that are no longer in memory
// come from the disk; they are those of this view or an error.
func (v *logView) read(index, to uint64, limit int) ([]byte, uint64, error) {
	if records, last := v.tail.read(index, to, limit); records != nil {
		return records, last, nil
	}
	if first := v.tail.first(); first > index {
		to = min(to, first-1)
	}
	records, err := v.store.Read(nil, index, to, limit)
	switch {
	case errors.Is(err, wal.ErrOutOfRange) || errors.Is(err, wal.ErrClosed):
		return nil, 0, fmt.Errorf("raft: reading entry %d: %w", index, err)
	case err != nil:
		return nil, 0, fmt.Errorf("%w: entry %d: %w", errUnreadable, index, err)
	}
	last := index - 1
	for rest := records; len(rest) > 0; {
		record, next, err := wal.NextRecord(rest)
		if err != nil {
			return nil, 0, err
		}
		if last++; record.Index() != last || record.Term() != v.terms.termAt(last) {
			return nil, 0, fmt.Errorf("raft: entry %d is no longer that of term %d", last, v.terms.termAt(last))
		}
		rest = next
	}
	return records, last, nil
}
