package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/goraft/raft/internal/vfs"
)

// recovery walks the log once, from the oldest batch to the newest.
type recovery struct {
	store   *Store
	visitor Visitor
	window  window
	marker  marker

	// The end of the walk so far.
	seg    *segment
	off    int64
	prev   uint32
	kind   batchKind // of the last batch; 0 in a segment without one
	ends   mark      // place and end of the last batch of all; a nil seg is none
	closed bool      // the last segment was ended by a roll
}

// recover rebuilds the view, and brings the end of the log into a state that can
// be written on. The order is: check everything, then change.
func (s *Store) recover(numbers []uint64, visitor Visitor) error {
	if visitor == nil {
		visitor = blind{}
	}
	if err := s.openSegments(numbers); err != nil {
		return err
	}
	segs := s.view.segments
	largest := int64(0)
	for _, seg := range segs {
		largest = max(largest, seg.allocated)
	}
	r := &recovery{store: s, visitor: visitor, window: window{buf: make([]byte, min(largest, 1<<20))}}
	s.view.first = segs[0].header.first
	s.view.last = s.view.first - 1
	s.view.commit = segs[0].header.commit
	unbegun := false
	for i, seg := range segs {
		if err := r.walk(seg); err != nil {
			return err
		}
		if r.closed || i == len(segs)-1 {
			continue
		}
		// Only the newest segment may follow one that was not ended, and only if it
		// was never used, and was made for what this one holds.
		next := segs[i+1]
		blank, err := next.blank(&window{file: next.file, buf: make([]byte, min(next.allocated, 64<<10))}, segmentHeaderSize)
		if err != nil {
			return err
		}
		if i+1 != len(segs)-1 || !blank || !r.follows(next) {
			return r.broken()
		}
		unbegun = true
		break
	}
	if r.closed {
		return corrupt(filepath.Join(s.dir, segmentName(r.seg.header.number+1)), 0, "missing, though the segment before it was ended")
	}
	if err := r.checkClusters(); err != nil {
		return err
	}
	torn, err := r.tail()
	if err != nil {
		return err
	}
	if err := r.settle(torn, unbegun); err != nil {
		return noSpace(err)
	}
	s.writer = writer{seg: r.seg, off: r.off, prev: r.prev, sealed: r.kind == kindSeal, marker: r.marker}
	return nil
}

// blind is the visitor of a caller that has none.
type blind struct{}

func (blind) Truncate(uint64) {}
func (blind) Record(Record)   {}

func (s *Store) openSegments(numbers []uint64) error {
	if len(numbers) == 0 {
		return corrupt(filepath.Join(s.dir, segmentName(1)), 0, "missing, though the store is not new")
	}
	for i, number := range numbers {
		if number != numbers[0]+uint64(i) {
			return corrupt(filepath.Join(s.dir, segmentName(number-1)), 0, "missing between other segments")
		}
		seg, err := openSegment(s.fsys, s.dir, number)
		if err != nil {
			return err
		}
		s.view.segments = append(s.view.segments, seg)
		if seg.header.storeID != s.identity.StoreID {
			return corrupt(seg.name, 16, "of store %016x, the directory is of %016x", seg.header.storeID, s.identity.StoreID)
		}
	}
	return nil
}

// walk replays a segment up to its last valid batch.
func (r *recovery) walk(seg *segment) error {
	h := &seg.header
	if r.seg != nil && (h.prev != r.prev || h.first != r.store.view.last+1) {
		return corrupt(seg.name, 40, "the segment does not continue the one before")
	}
	r.seg, r.off, r.prev, r.kind, r.closed = seg, segmentHeaderSize, h.checksum, 0, false
	r.window.file, r.window.n = seg.file, 0
	for !r.closed {
		h, b, off, err := r.next()
		if err != nil {
			return err
		}
		if b == nil {
			return nil
		}
		r.off = off
		if err := r.replay(&h, b); err != nil {
			return err
		}
	}
	// Nothing is ever written behind the end of a segment. What is there belongs
	// elsewhere, or has rotted.
	blank, err := seg.blank(&r.window, r.off)
	if err == nil && !blank {
		err = corrupt(seg.name, r.off, "bytes behind the end of the segment")
	}
	return err
}

// next returns the batch at the end of the walk, and where it stands; no bytes say
// that there is no valid one.
func (r *recovery) next() (batchHeader, []byte, int64, error) {
	off := r.off
	h, b, err := r.batch(off)
	if b != nil || err != nil {
		return h, b, off, err
	}
	// A seal has a sector of its own; what it leaves free is zero.
	sector := alignSector(off)
	if gap := sector - off; gap > 0 && sector <= r.seg.allocated {
		z, err := r.window.peek(off, int(gap))
		if err != nil {
			return h, nil, off, err
		}
		if allZero(z) {
			h, b, err = r.batch(sector)
			if err != nil || b != nil && h.kind == kindSeal {
				return h, b, sector, err
			}
		}
	}
	return batchHeader{}, nil, off, nil
}

// batch returns the valid batch at an offset; no bytes say that there is none.
func (r *recovery) batch(off int64) (batchHeader, []byte, error) {
	rest := r.seg.allocated - off
	if rest < batchHeaderSize {
		return batchHeader{}, nil, nil
	}
	b, err := r.window.peek(off, batchHeaderSize)
	if err != nil {
		return batchHeader{}, nil, err
	}
	h, ok := decodeBatchHeader(b, r.store.seed, r.seg.header.number, off)
	if !ok || h.size() > rest {
		return batchHeader{}, nil, nil
	}
	if b, err = r.window.peek(off, int(h.size())); err != nil {
		return batchHeader{}, nil, err
	}
	if !h.verifyBatch(b, r.store.seed) {
		return batchHeader{}, nil, nil
	}
	return h, b, nil
}

// replay makes a valid batch part of the log.
func (r *recovery) replay(h *batchHeader, b []byte) error {
	v := &r.store.view
	if h.prev != r.prev {
		return corrupt(r.seg.name, r.off, "the batch does not follow the one before")
	}
	if err := h.meaning(v.last); err != nil {
		return corrupt(r.seg.name, r.off, "%v", err)
	}
	var marks []mark
	switch h.kind {
	case kindAppend:
		body := b[batchHeaderSize : batchHeaderSize+int64(h.length)]
		if err := checkRecords(body, h.first, h.count, r.seg.seed); err != nil {
			return corrupt(r.seg.name, r.off, "%v", err)
		}
		if !allZero(b[batchHeaderSize+int64(h.length):]) {
			return corrupt(r.seg.name, r.off, "bytes behind the last record")
		}
		var err error
		if marks, err = r.marker.scan(r.seg, h.first <= v.last, r.off+batchHeaderSize, body); err != nil {
			return corrupt(r.seg.name, r.off, "%v", err)
		}
		r.show(h.first, h.first <= v.last, body)
	case kindTruncate:
		r.marker.force = true
		r.visitor.Truncate(h.first)
	case kindReset:
		r.marker.force = true
		r.visitor.Truncate(0)
	}
	v.apply(h, marks)
	r.ends = mark{seg: r.seg, off: r.off, end: r.off + h.size()}
	r.off += h.size()
	r.prev, r.kind, r.closed = h.checksum, h.kind, h.kind == kindRoll
	return nil
}

// checkRecords verifies each record of a batch, which are to be count, from first on.
func checkRecords(body []byte, first uint64, count, seed uint32) error {
	for i := range uint64(count) {
		r, rest, err := NextRecord(body)
		if err != nil {
			return err
		}
		if err := r.Verify(seed); err != nil {
			return err
		}
		if r.Index() != first+i {
			return fmt.Errorf("a record of index %d in the place of %d", r.Index(), first+i)
		}
		body = rest
	}
	if len(body) > 0 {
		return fmt.Errorf("%d bytes behind the last record", len(body))
	}
	return nil
}

func (r *recovery) show(first uint64, cuts bool, body []byte) {
	if cuts {
		r.visitor.Truncate(first)
	}
	for len(body) > 0 {
		rec, rest, err := NextRecord(body)
		if err != nil {
			return
		}
		r.visitor.Record(rec)
		body = rest
	}
}

// follows reports whether a segment was made to go on where the walk has ended, for
// the time when this one is ended.
func (r *recovery) follows(next *segment) bool {
	first := r.store.view.last + 1
	end := rollHeader(first, next.header.commit, r.prev, r.seg.header.number, r.off)
	var scratch [rollSize]byte
	end.sealBatch(scratch[:], r.store.seed)
	return next.header.first == first && next.header.prev == end.checksum
}

func (r *recovery) broken() error {
	return corrupt(r.seg.name, r.off, "no valid batch, though others follow")
}

// checkClusters refuses entries of another cluster: the cluster id only changes
// while there are none.
func (r *recovery) checkClusters() error {
	for _, m := range r.store.view.marks {
		if m.seg.header.clusterID != r.store.identity.ClusterID {
			return corrupt(m.seg.name, 24, "entries of cluster %016x, the store is in %016x",
				m.seg.header.clusterID, r.store.identity.ClusterID)
		}
	}
	return nil
}

// tail decides what the bytes after the last valid batch of the last segment are.
// All zeros are space that waits. Anything else is an unfinished batch, to be cut,
// unless something shows that the place had been synced before: a valid batch
// header further on (the next batch is only written when this one is durable), or,
// if the header at this place is whole, bytes behind the end that it names. That is
// damage, and nothing is cut.
func (r *recovery) tail() (*TornTail, error) {
	seg, end := r.seg, r.seg.allocated
	limit := end
	if end-r.off >= batchHeaderSize {
		b, err := r.window.peek(r.off, batchHeaderSize)
		if err != nil {
			return nil, err
		}
		if h, ok := decodeBatchHeader(b, r.store.seed, seg.header.number, r.off); ok {
			limit = min(end, (r.off+h.size()+sectorSize-1)&^(sectorSize-1))
		}
	}
	dirty := r.off
	const step = 64 << 10
	for at := r.off; at < end; at += step {
		n := min(step, end-at)
		b, err := r.window.peek(at, int(min(n+batchHeaderSize, end-at)))
		if err != nil {
			return nil, err
		}
		if allZero(b) {
			continue
		}
		for i := int64(0); i < n; i += alignment {
			if at+i > r.off && r.header(b[i:], at+i) {
				return nil, r.broken()
			}
		}
		for i, c := range b[:n] {
			if c != 0 {
				dirty = at + int64(i) + 1
			}
		}
	}
	switch {
	case dirty == r.off:
		return nil, nil
	case dirty > limit:
		return nil, r.broken()
	}
	return &TornTail{Segment: seg.name, Offset: r.off, Bytes: dirty - r.off}, nil
}

// header is decodeBatchHeader, quick to say no.
func (r *recovery) header(b []byte, off int64) bool {
	if len(b) < batchHeaderSize || binary.LittleEndian.Uint32(b) != batchMagic {
		return false
	}
	_, ok := decodeBatchHeader(b, r.store.seed, r.seg.header.number, off)
	return ok
}

// settle makes what was found durable, and removes what was not: after it, the
// disk holds exactly the log that Open returns, and zeros behind it.
//
// The last batch is written once more. A process may have been killed before it
// was synced, and if the sync was tried and failed, the system may believe that it
// has nothing to write: its pages are in the cache, not on the disk.
func (r *recovery) settle(torn *TornTail, unbegun bool) error {
	s := r.store
	if torn != nil {
		if err := r.erase(torn.Offset); err != nil {
			return err
		}
		s.torn = torn
	}
	if r.ends.seg != nil {
		r.window.file, r.window.n = r.ends.seg.file, 0
		b, err := r.window.peek(r.ends.off, int(r.ends.end-r.ends.off))
		if err != nil {
			return err
		}
		if _, err := r.ends.seg.file.WriteAt(b, r.ends.off); err != nil {
			return err
		}
		if err := r.ends.seg.file.Sync(); err != nil {
			return err
		}
	}
	if r.ends.seg != r.seg {
		if err := r.seg.file.Sync(); err != nil {
			return err
		}
	}
	if unbegun {
		n := len(s.view.segments) - 1
		next := s.view.segments[n]
		s.view.segments = s.view.segments[:n]
		if err := errors.Join(next.file.Close(), s.fsys.Remove(next.name)); err != nil {
			return err
		}
	}
	if err := s.fsys.SyncDir(s.dir); err != nil {
		return err
	}
	return errors.Join(s.state.settle(), s.bootstrap.settle())
}

// erase puts zeros in the place of all that is behind the log, from an offset on.
//
// If its sync fails, bytes may stay on the disk that read as zeros from then on, and
// a later crash would show them, behind batches of which nothing can be unfinished. So
// the next Open must know: until the rest is durable, the first sector is not zeros.
// That one needs no such care, because the next write of any kind covers it.
func (r *recovery) erase(from int64) error {
	f, end := r.seg.file, r.seg.allocated
	rest := min(alignSector(from+1), end)
	head := make([]byte, rest-from)
	if err := readFull(f, head, from); err != nil {
		return err
	}
	if allZero(head) {
		if _, err := f.WriteAt([]byte{0xff}, from); err != nil {
			return err
		}
	}
	if err := zero(f, rest, end, true); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return zero(f, from, rest, false)
}

// zero overwrites what is not zero already, so that a full disk does not matter. If
// zeros may hide what an earlier sync has failed to overwrite, they are written, too,
// as far as there is space.
func zero(f vfs.File, from, to int64, hidden bool) error {
	buf := make([]byte, min(to-from, 64<<10))
	for from < to {
		b := buf[:min(int64(len(buf)), to-from)]
		if err := readFull(f, b, from); err != nil {
			return err
		}
		if hidden || !allZero(b) {
			if err := zeroOver(f, b, from); err != nil {
				return err
			}
		}
		from += int64(len(b))
	}
	return nil
}

// zeroOver writes zeros over b, which stands at an offset. Where a batch was cut short
// there may be holes, which take space: on a full disk only the sectors that are not
// zeros are written over, each for itself.
func zeroOver(f vfs.File, b []byte, at int64) error {
	_, err := f.WriteAt(zeros[:len(b)], at)
	if !vfs.IsNoSpace(err) {
		return err
	}
	sector := alignSector(at+1) - at
	if int64(len(b)) <= sector {
		if allZero(b) {
			return nil
		}
		return err
	}
	for len(b) > 0 {
		n := min(sector, int64(len(b)))
		if err := zeroOver(f, b[:n], at); err != nil {
			return err
		}
		b, at, sector = b[n:], at+n, sectorSize
	}
	return nil
}
