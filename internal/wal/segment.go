package wal

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goraft/raft/internal/vfs"
)

const (
	firstSegmentSize  = 64 << 10
	defaultMaxSegment = 64 << 20
)

var zeros [256 << 10]byte

// segment is an open segment file. The header never changes. The file is read by
// any goroutine, at places that were written and synced before; the log writer
// alone writes it.
type segment struct {
	header segmentHeader
	name   string // with the directory
	file   vfs.File
	seed   uint32 // of the records

	allocated int64 // the size of the file, all of it written once; the writer's

	refs    int  // readers inside; guarded by Store.mu
	dropped bool // closed with the last reader; guarded by Store.mu
}

// segmentTarget is the size that a segment is meant to have.
func segmentTarget(number uint64, limit int64) int64 {
	if number > 32 {
		return limit
	}
	return min(firstSegmentSize<<(number-1), limit)
}

// readFull reads all of b, and says so if the file ends before that.
func readFull(f vfs.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// openSegment opens a segment and checks everything that stands in its header.
func openSegment(fsys vfs.FS, dir string, number uint64) (*segment, error) {
	name := filepath.Join(dir, segmentName(number))
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := &segment{name: name, file: f}
	if err := s.load(number); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func (s *segment) load(number uint64) error {
	size, err := s.file.Size()
	if err != nil {
		return err
	}
	b := make([]byte, min(size, segmentHeaderSize))
	if err := readFull(s.file, b, 0); err != nil {
		return err
	}
	if s.header, err = decodeSegmentHeader(s.name, b); err != nil {
		return err
	}
	switch {
	case s.header.number != number:
		return corrupt(s.name, 32, "this is segment %d", s.header.number)
	case size < s.header.allocated:
		return corrupt(s.name, size, "the file ends here, and had %d bytes", s.header.allocated)
	}
	s.seed = Seed(s.header.clusterID)
	s.allocated = size
	return nil
}

// createSegment makes the file of a new segment, with room for so much behind the
// header, and for a step of growth at least: header and name are durable when it
// returns. ErrNoSpace leaves all as it was.
func (s *Store) createSegment(h segmentHeader, first int64) (*segment, error) {
	h.allocated = max(alignSector(segmentHeaderSize+first+rollSize), min(segmentTarget(h.number, s.limit), s.step()))
	temp := filepath.Join(s.dir, segmentTempName)
	f, err := vfs.CreateFresh(s.fsys, temp)
	if err != nil {
		return nil, noSpace(err)
	}
	if err = allocate(f, 0, h.allocated); err == nil {
		_, err = f.WriteAt(h.encode(), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(noSpace(err), s.discard(temp))
	}
	name := filepath.Join(s.dir, segmentName(h.number))
	if err := s.fsys.Rename(temp, name); err != nil {
		return nil, errors.Join(noSpace(err), s.discard(temp))
	}
	if err := s.fsys.SyncDir(s.dir); err != nil {
		return nil, err
	}
	// Opened by its own name, which errors will tell.
	return openSegment(s.fsys, s.dir, h.number)
}

// discard removes a file that was not used. If that fails it is in nobody's way: it
// is replaced by the next one of its name, or removed at the next Open.
func (s *Store) discard(name string) error {
	err := s.fsys.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// blank reports whether nothing was ever written from an offset on.
func (s *segment) blank(w *window, off int64) (bool, error) {
	for off < s.allocated {
		b, err := w.peek(off, int(min(int64(len(w.buf)), s.allocated-off)))
		if err != nil {
			return false, err
		}
		if !allZero(b) {
			return false, nil
		}
		off += int64(len(b))
	}
	return true, nil
}

// allocate writes zeros from one offset to another. Space that is written is space
// that the disk cannot refuse later, and a sync of it need not touch metadata.
func allocate(f vfs.File, from, to int64) error {
	for from < to {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// grow writes zeros behind the space that is there, from one offset to another. The
// space counts when the batch is synced that it is for. A disk that is full leaves the
// file as it was: ErrNoSpace.
func (s *segment) grow(from, to int64) error {
	err := allocate(s.file, from, to)
	if err == nil || !vfs.IsNoSpace(err) {
		return err
	}
	// If not even that has space, the zeros stay: nothing counts on them.
	if undo := s.file.Truncate(s.allocated); undo != nil && !vfs.IsNoSpace(undo) {
		return undo
	}
	return errors.Join(ErrNoSpace, err)
}

// window reads a file ahead, through a buffer.
type window struct {
	file vfs.File
	buf  []byte
	at   int64
	n    int
	fill int // how much to read at once; 0 is all of buf
}

// peek returns n bytes of the file at off, valid until the next call. The buffer
// grows to n: the caller bounds it by the file. The error of a file that ends
// before is io.ErrUnexpectedEOF.
func (w *window) peek(off int64, n int) ([]byte, error) {
	if off >= w.at && off+int64(n) <= w.at+int64(w.n) {
		return w.buf[off-w.at:][:n], nil
	}
	// What is there already stays, so that a file is read once, from end to end.
	kept := 0
	buf := w.buf
	if n > len(buf) {
		buf = make([]byte, n)
	}
	if off >= w.at && off < w.at+int64(w.n) {
		kept = copy(buf, w.buf[off-w.at:w.n])
	}
	size := len(buf)
	if w.fill > 0 {
		size = min(size, max(w.fill, n))
	}
	read, err := w.file.ReadAt(buf[kept:size], off+int64(kept))
	read += kept
	w.buf, w.at, w.n = buf, off, read
	if read >= n {
		return w.buf[:n], nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	return nil, err
}
