package wal

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

const readAhead = 64 << 10

var windows = sync.Pool{New: func() any { return &window{buf: make([]byte, readAhead)} }}

// Read appends to dst the records from index from up to index to: at least one, and
// then as many as fit into maxBytes with it. Each was verified. It may be called
// from any goroutine, while the log is written and compacted too, and then returns
// what was in the log at one moment. A reader that goes on where it stopped finds
// its place without searching.
//
// ErrOutOfRange says that the log does not hold both ends; ErrCorrupt that the
// disk does not hold what was written, in which case the records before the damage
// are returned with the error.
func (s *Store) Read(dst []byte, from, to uint64, maxBytes int) ([]byte, error) {
	w := windows.Get().(*window)
	defer windows.Put(w)
	w.fill = min(readAhead, max(maxBytes, 4<<10))
	r := reader{dst: dst, start: len(dst), budget: maxBytes, window: w, seed: s.seed, next: from}
	var generation uint64
	for r.next <= to || r.next == from {
		p, reach, seen, err := s.enter(r.next, from, to)
		if err == nil && r.next != from && seen != generation {
			// Entries were taken away meanwhile. What was read was in the log before
			// that; what would follow is not of the same log.
			s.leave(p.seg, 0, seen, mark{})
			return r.dst, nil
		}
		if err != nil {
			if r.next != from {
				err = nil
			}
			return r.dst, err
		}
		generation = seen
		begin := r.next
		stopped, err := r.run(p, min(reach, to))
		s.leave(p.seg, begin, seen, stopped)
		if err != nil || r.full {
			return r.dst, err
		}
	}
	return r.dst, nil
}

// enter finds the place to read an index from, and holds its segment open.
func (s *Store) enter(next, from, to uint64) (p mark, reach, generation uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &s.view
	switch {
	case s.closed:
		return p, 0, 0, ErrClosed
	case from > to || next < v.first || next > v.last || next == from && to > v.last:
		return p, 0, 0, fmt.Errorf("%w: reading from %d to %d, the log is from %d to %d", ErrOutOfRange, from, to, v.first, v.last)
	}
	p, reach = v.find(next)
	p.seg.refs++
	return p, reach, v.generation, nil
}

// leave lets go of a segment, and remembers where the reader stopped, unless that
// entries have been taken away since: the place may be that of one of them.
func (s *Store) leave(seg *segment, began, generation uint64, stopped mark) {
	s.mu.Lock()
	seg.refs--
	last := seg.dropped && seg.refs == 0
	if stopped.seg != nil && !seg.dropped && generation == s.view.generation {
		s.view.leave(began, stopped)
	}
	s.mu.Unlock()
	if last {
		_ = seg.file.Close()
	}
}

// reader is one call of Read.
type reader struct {
	dst    []byte
	start  int
	budget int
	window *window
	seed   uint32 // of the batches
	next   uint64 // the record that is wanted next
	full   bool
}

// run reads on from a place in a segment, up to an index that can be reached from
// there, and returns where it stopped.
func (r *reader) run(p mark, to uint64) (mark, error) {
	r.window.file, r.window.n = p.seg.file, 0
	for p.index <= to {
		if p.off >= p.end {
			if err := r.enterBatch(&p); err != nil {
				return mark{}, err
			}
			continue
		}
		b, err := r.window.peek(p.off, RecordHeaderSize)
		if err != nil {
			return mark{}, r.damaged(p, err)
		}
		rec := Record(b)
		size := int64(rec.length()) + RecordHeaderSize
		if p.off+size > p.end || rec.Index() != p.index {
			return mark{}, corrupt(p.seg.name, p.off, "not the record of index %d", p.index)
		}
		if p.index == r.next {
			if len(r.dst) > r.start && int64(len(r.dst)-r.start)+size > int64(r.budget) {
				r.full = true
				return p, nil
			}
			if err := r.take(p, size); err != nil {
				return mark{}, err
			}
			r.next++
		}
		p.off += size
		p.index++
	}
	return p, nil
}

// enterBatch goes from the end of a batch to the records of the next one.
func (r *reader) enterBatch(p *mark) error {
	off := align(p.end)
	b, err := r.window.peek(off, batchHeaderSize)
	if err != nil {
		return r.damaged(*p, err)
	}
	if sector := alignSector(off); sector != off && allZero(b[:min(sector-off, batchHeaderSize)]) {
		// A seal may follow, in the next sector.
		gap := sector - off
		if b, err = r.window.peek(off, int(gap)+batchHeaderSize); err != nil {
			return r.damaged(*p, err)
		}
		if !allZero(b[:gap]) {
			return corrupt(p.seg.name, off, "not the batch of index %d", p.index)
		}
		off, b = sector, b[gap:]
	}
	h, ok := decodeBatchHeader(b, r.seed, p.seg.header.number, off)
	if !ok || h.kind == kindAppend && h.first != p.index || h.kind != kindAppend && h.kind != kindSeal {
		return corrupt(p.seg.name, off, "not the batch of index %d", p.index)
	}
	p.off = off + batchHeaderSize
	p.end = p.off + int64(h.length)
	return nil
}

// take appends a record to dst, once it has verified.
func (r *reader) take(p mark, size int64) error {
	n := len(r.dst)
	if size <= int64(len(r.window.buf)) {
		b, err := r.window.peek(p.off, int(size))
		if err != nil {
			return r.damaged(p, err)
		}
		r.dst = append(r.dst, b...)
	} else {
		r.dst = append(r.dst, make([]byte, size)...)
		if err := readFull(p.seg.file, r.dst[n:], p.off); err != nil {
			r.dst = r.dst[:n]
			return r.damaged(p, err)
		}
	}
	if err := Record(r.dst[n:]).Verify(p.seg.seed); err != nil {
		r.dst = r.dst[:n]
		return corrupt(p.seg.name, p.off, "%v", err)
	}
	return nil
}

// damaged tells a file that is too short from one that cannot be read.
func (r *reader) damaged(p mark, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(p.seg.name, p.off, "the file ends before the record of index %d", p.index)
	}
	return err
}
