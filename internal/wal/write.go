package wal

import (
	"errors"
	"fmt"
	"math"

	"github.com/goraft/raft/internal/vfs"
)

// chunkSize is the most that is gathered for one write. A batch that is larger takes
// several, before its one sync, and so no more memory.
//
// It is also the size from which on bytes cost more than syncs do: such a large batch
// grows its file by itself, instead of being written into zeros that were. So do small
// ones among them, or their zeros would be in the place of the next large one.
const chunkSize = 256 << 10

// usualOf is over about how many batches the usual size is averaged.
const usualOf = 16

// step is by how much a segment grows while batches are small. Zeros for the next
// mebibyte take about as long as a sync, for which the batch waits that needs them. Among
// hundreds of tiny batches that is one; where one in ten would be held up so, steps are
// smaller.
func (s *Store) step() int64 {
	if s.writer.usual >= s.chunk/16 {
		return s.chunk
	}
	return 4 * s.chunk
}

// rollSize is kept free at the end of every segment, so that it can always be
// ended without asking the disk for space. A batch leaves sealSpace as well, so that
// a store whose disk is full can still be sealed: most disks are full when a segment is.
const (
	rollSize  = batchHeaderSize
	sealSpace = 2 * sectorSize
)

// Append puts whole records into the log, the first of them at index first, in
// place of everything from first on. When it returns nil, they are durable, and so
// is commit, the commit index that the caller knows of.
//
// The buffers hold records that were stamped, one after the other; they are not
// kept. There is one write, or one for each chunk of a large batch, and one sync; and
// no allocation but for a rare mark.
// first must not be below the log, nor leave a gap: ErrOutOfRange. Errors of the
// disk are final (ErrFailed), except for ErrNoSpace.
func (s *Store) Append(first, commit uint64, bufs ...[]byte) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.within(first, 1); err != nil {
		return err
	}
	count, length, err := measure(first, bufs)
	if err != nil || count == 0 {
		return err
	}
	if s.writer.unsure {
		// An entry of this cluster must not meet the other one's id in a restart.
		if err := s.SaveIdentity(s.Identity()); err != nil {
			return err
		}
	}
	h := batchHeader{kind: kindAppend, first: first, commit: commit, count: count, length: length}
	return s.write(&h, bufs)
}

// measure checks that the buffers hold whole records of consecutive indexes.
func measure(first uint64, bufs [][]byte) (count, length uint32, err error) {
	var total uint64
	index := first
	for _, b := range bufs {
		for total += uint64(len(b)); len(b) > 0; index++ {
			r, rest, err := NextRecord(b)
			if err != nil {
				return 0, 0, err
			}
			if r.Index() != index {
				return 0, 0, fmt.Errorf("%w: a record of index %d in the place of %d", ErrRecord, r.Index(), index)
			}
			b = rest
		}
	}
	if total > math.MaxInt32-segmentHeaderSize-2*batchHeaderSize {
		return 0, 0, fmt.Errorf("%w: a batch of %d bytes", ErrTooLarge, total)
	}
	if index < first {
		return 0, 0, fmt.Errorf("%w: there is no index behind the last record", ErrOutOfRange)
	}
	return uint32(index - first), uint32(total), nil
}

// within checks that a batch may begin at an index, up to beyond past the last.
func (s *Store) within(index, beyond uint64) error {
	first, last := s.Bounds()
	if index < first || index > last+beyond {
		return fmt.Errorf("%w: writing at %d, the log is from %d to %d", ErrOutOfRange, index, first, last)
	}
	return nil
}

// Truncate takes the entries from index first on out of the log, durably.
// Truncating right behind the last entry does nothing.
func (s *Store) Truncate(first, commit uint64) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.within(first, 1); err != nil {
		return err
	}
	if _, last := s.Bounds(); first > last {
		return nil
	}
	return s.write(&batchHeader{kind: kindTruncate, first: first, commit: commit}, nil)
}

// Reset empties the log, durably, and lets it go on with index next, as after a
// snapshot that covers more than the log. It may be followed by Compact.
func (s *Store) Reset(next, commit uint64) error {
	if err := s.writable(); err != nil {
		return err
	}
	if next == 0 {
		return fmt.Errorf("%w: a log begins at 1", ErrOutOfRange)
	}
	return s.write(&batchHeader{kind: kindReset, first: next, commit: commit}, nil)
}

// Seal proves to a later Open that everything before it was durable, so that
// damage to it is never taken for a batch that a crash left unfinished. To be
// called when the writer falls idle. It does nothing if there is nothing new.
//
// A seal begins a sector of its own, so that damage to the end of the batch before it
// does not take the proof along. One that only tells of a newer commit index stands
// right behind the last.
func (s *Store) Seal(commit uint64) error {
	if err := s.writable(); err != nil {
		return err
	}
	s.mu.Lock()
	next, known := s.view.last+1, s.view.commit
	s.mu.Unlock()
	if s.writer.sealed && commit <= known {
		return nil
	}
	return s.write(&batchHeader{kind: kindSeal, first: next, commit: commit}, nil)
}

// write puts a batch at the end of the log, syncs it, and shows it to the readers.
func (s *Store) write(h *batchHeader, bufs [][]byte) error {
	// Also for a caller that knows less than the log: a batch that has the highest
	// commit index may be compacted away before the next one.
	h.commit = max(h.commit, s.CommitIndex())
	w := &s.writer
	if err := s.clean(); err != nil {
		return s.fail(err)
	}
	size, apart := h.size(), h.kind == kindSeal && !w.sealed
	if apart {
		size += alignSector(w.off) - w.off
	}
	room, err := s.reserve(size, h.kind)
	if err != nil {
		return s.fail(err)
	}
	end := w.off
	if apart {
		w.off = alignSector(w.off)
	}
	start := w.off
	if err := s.put(h, bufs); err != nil {
		w.off = end
		return s.fail(err)
	}
	w.seg.allocated = room
	var marks []mark
	if h.kind == kindAppend {
		w.usual += (size - w.usual) / usualOf
		_, last := s.Bounds()
		if marks, err = w.marker.scan(w.seg, h.first <= last, start+batchHeaderSize, bufs...); err != nil {
			return s.fail(err)
		}
	} else if h.kind != kindSeal {
		w.marker.force = true
	}
	w.sealed = h.kind == kindSeal
	s.mu.Lock()
	s.view.apply(h, marks)
	s.mu.Unlock()
	return nil
}

// put writes a batch and syncs it. The place must be reserved.
func (s *Store) put(h *batchHeader, bufs [][]byte) error {
	w := &s.writer
	size := h.size()
	h.prev, h.segment, h.offset = w.prev, w.seg.header.number, w.off
	if err := s.stream(h, bufs); err != nil {
		return s.undo(err, size)
	}
	if err := w.seg.file.Sync(); err != nil {
		return err
	}
	w.off += size
	w.prev = h.checksum
	return nil
}

// stream writes a batch at the end of the log, a chunk at a time. The checksum stands in
// front of what it covers, so the body is gone through before.
func (s *Store) stream(h *batchHeader, bufs [][]byte) error {
	w := &s.writer
	if size := min(h.size(), s.chunk); int64(cap(w.buf)) < size {
		w.buf = make([]byte, min(size+size/4, s.chunk))
	}
	b := w.buf[:batchHeaderSize]
	h.sealBatch(b, s.seed, bufs...)
	at := w.off
	for _, rest := range bufs {
		for len(rest) > 0 {
			if len(b) == cap(b) {
				if _, err := w.seg.file.WriteAt(b, at); err != nil {
					return err
				}
				at, b = at+int64(len(b)), b[:0]
			}
			n := min(len(rest), cap(b)-len(b))
			b, rest = append(b, rest[:n]...), rest[n:]
		}
	}
	b = append(b, zeros[:padding(int64(h.length))]...)
	_, err := w.seg.file.WriteAt(b, at)
	return err
}

// undo takes back a batch that found the disk full: a large one, or one whose space had
// been written before, for there are file systems that never write in place.
func (s *Store) undo(cause error, size int64) error {
	w := &s.writer
	if !vfs.IsNoSpace(cause) {
		return cause
	}
	w.spill = spill{seg: w.seg, from: w.off, to: w.off + size}
	if err := s.clean(); err != nil {
		return err
	}
	return noSpace(cause)
}

// spill is what a batch that was refused has left behind: a part of it, in a
// segment, and the next segment, if the batch was to end this one.
type spill struct {
	seg      *segment
	from, to int64
	next     string
}

// clean removes, durably, what was spilled, lest a crash mixes what was refused with
// what will stand there. Where even that finds the disk full, nothing is written
// before it has succeeded.
func (s *Store) clean() error {
	left := &s.writer.spill
	if left.seg != nil {
		if err := left.cutBack(); err != nil {
			return err
		}
		// The first sector last: as long as it is not zeros, Open erases it all, whatever
		// a sync that has failed may have left on the disk.
		to := min(left.to, left.seg.allocated)
		from := min(left.from, to)
		rest := min(alignSector(from+1), to)
		for _, part := range [2][2]int64{{rest, to}, {from, rest}} {
			if err := zero(left.seg.file, part[0], part[1], false); err != nil {
				return noSpace(err)
			}
			if err := left.seg.file.Sync(); err != nil {
				return err
			}
		}
		left.seg = nil
	}
	if left.next != "" {
		if err := s.discard(left.next); err != nil {
			return noSpace(err)
		}
		if err := s.fsys.SyncDir(s.dir); err != nil {
			return err
		}
		left.next = ""
	}
	return nil
}

// cutBack takes away what was spilled beyond the space that the segment had. It is zeros
// before, but for the batch's first sector and as far as a full disk lets it be: a sync
// that fails may lose the cut, and what comes back with it would stand behind the
// batches of a later Open, which knows nothing of it.
func (left *spill) cutBack() error {
	f, had := left.seg.file, left.seg.allocated
	if left.to <= had {
		return nil
	}
	size, err := f.Size()
	if err != nil || size <= had {
		return noSpace(err)
	}
	from := min(max(alignSector(left.from+1), had), size)
	if err := zero(f, from, size, false); err != nil && !vfs.IsNoSpace(err) {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return noSpace(f.Truncate(had))
}

// reserve makes room for a batch: in the current segment, or in a new one if it does
// not fit any more or if the cluster id has changed. It returns the size that the file
// has when the batch is written.
//
// Nothing of a batch is written before there is space for all of it, so a full disk
// tears nothing. While batches are large, they take their space by being written, and
// are taken back if there is too little. Only what must be free behind one is there before.
func (s *Store) reserve(size int64, kind batchKind) (int64, error) {
	w := &s.writer
	target := segmentTarget(w.seg.header.number, s.limit)
	space, large := int64(sealSpace), max(size, w.usual) >= s.chunk
	if kind == kindSeal {
		target, space = max(target, w.seg.allocated), 0
	}
	fits := w.off+size+rollSize <= target || w.off == segmentHeaderSize
	if !fits || w.seg.header.clusterID != s.identity.ClusterID {
		first := size + space
		if large {
			first = space
		}
		if err := s.roll(first); err != nil {
			return 0, err
		}
		target = segmentTarget(w.seg.header.number, s.limit)
	}
	end := w.off + size
	need := end + rollSize + space
	if need <= w.seg.allocated {
		return w.seg.allocated, nil
	}
	need = alignSector(need)
	if large {
		return need, w.seg.grow(max(end, w.seg.allocated), need)
	}
	need = max(need, min(target, w.seg.allocated+s.step()))
	return need, w.seg.grow(w.seg.allocated, need)
}

// cachedSegments is how many segments behind the current one are left to the system's
// cache. A log is written once and, but for who has fallen far behind, read never: its
// gigabytes would drive out what the application keeps there.
const cachedSegments = 1

// roll ends the current segment and begins the next one. The next file is there,
// durably, with the checksum of the batch that ends this one, before that batch is
// written: so a segment that was ended always has a successor, and one that has
// a successor with batches was always ended.
//
// Both say the commit index that was known before the batch which wants the room:
// what that one says may be true of its own entries only, and a crash may leave
// those that they replace.
func (s *Store) roll(first int64) error {
	w := &s.writer
	_, last := s.Bounds()
	commit := s.CommitIndex()
	end := rollHeader(last+1, commit, w.prev, w.seg.header.number, w.off)
	var scratch [rollSize]byte
	end.sealBatch(scratch[:], s.seed)
	header := segmentHeader{
		storeID:   s.identity.StoreID,
		clusterID: s.identity.ClusterID,
		number:    w.seg.header.number + 1,
		first:     last + 1,
		commit:    commit,
		prev:      end.checksum,
	}
	next, err := s.createSegment(header, first)
	if err != nil {
		return err
	}
	if err := s.put(&end, nil); err != nil {
		err = errors.Join(err, next.file.Close())
		if errors.Is(err, ErrNoSpace) {
			// A successor that was not used would be taken for proof of what this segment
			// holds; but only when that is clean is it sure that it was not ended.
			w.spill.next = next.name
			if undo := s.clean(); undo != nil {
				return undo
			}
		}
		return err
	}
	s.mu.Lock()
	s.view.segments = append(s.view.segments, next)
	var old *segment
	if n := len(s.view.segments); n > cachedSegments {
		old = s.view.segments[n-1-cachedSegments]
	}
	s.mu.Unlock()
	if old != nil {
		vfs.Forget(old.file)
	}
	w.seg, w.off, w.prev = next, segmentHeaderSize, next.header.checksum
	return nil
}

// rollHeader is the batch that ends a segment, but for its checksum.
func rollHeader(first, commit uint64, prev uint32, segment uint64, off int64) batchHeader {
	return batchHeader{kind: kindRoll, first: first, commit: commit, prev: prev, segment: segment, offset: off}
}

// Compact removes the oldest segments as long as they hold only entries below
// first, which must not be beyond the end of the log. One after the other, each
// durably: what a crash leaves has no gap.
func (s *Store) Compact(first uint64) error {
	if err := s.writable(); err != nil {
		return err
	}
	if _, last := s.Bounds(); first > last+1 {
		return fmt.Errorf("%w: compacting to %d, the log ends at %d", ErrOutOfRange, first, last)
	}
	for {
		s.mu.Lock()
		var oldest *segment
		if len(s.view.segments) > 1 && s.view.endOfOldest() <= first {
			oldest = s.view.segments[0]
		}
		s.mu.Unlock()
		if oldest == nil {
			return nil
		}
		if err := s.fsys.Remove(oldest.name); err != nil {
			return s.fail(noSpace(err)) // even that takes space where the disk copies on write
		}
		if err := s.fsys.SyncDir(s.dir); err != nil {
			return s.fail(err)
		}
		s.mu.Lock()
		s.view.drop()
		oldest.dropped = true
		idle := oldest.refs == 0
		s.mu.Unlock()
		if idle {
			// Nothing depends on how the handle of a removed file closes.
			_ = oldest.file.Close()
		}
	}
}

// noSpace marks an error of a full disk as one that has changed nothing.
func noSpace(err error) error {
	if err != nil && vfs.IsNoSpace(err) && !errors.Is(err, ErrNoSpace) {
		return errors.Join(ErrNoSpace, err)
	}
	return err
}
