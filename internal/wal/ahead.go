package wal

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/goraft/raft/internal/vfs"
)

// ahead is the file that becomes the next segment: allocated and zeroed in the
// background, because writing into space that was written before and synced takes
// a third of the time. It has a temporary name until it is used, so a crash or an
// error loses nothing but the preparation. Guarded by Store.mu.
type ahead struct {
	pending  bool          // a function was given to the runner and has not ended
	running  chan struct{} // closed when it has ended; nil while it has not begun
	file     vfs.File      // ready to be used
	size     int64
	preparer uint64 // the segment in which one was prepared, or tried, last
	stop     bool
}

// allocateAhead has the next segment prepared when the current one is half full.
// The first segments are so small that it is not worth it.
func (s *Store) allocateAhead() {
	w := &s.writer
	number := w.seg.header.number
	if number < 2 || w.off < segmentTarget(number, s.limit)/2 {
		return
	}
	s.mu.Lock()
	idle := !s.ahead.pending && s.ahead.file == nil && s.ahead.preparer != number
	if idle {
		s.ahead.pending, s.ahead.preparer = true, number
	}
	s.mu.Unlock()
	if !idle {
		return
	}
	size := segmentTarget(number+1, s.limit)
	s.runner(func() { s.prepare(size) })
}

// prepare runs in the background.
func (s *Store) prepare(size int64) {
	s.mu.Lock()
	if s.ahead.stop {
		s.ahead.pending = false
		s.mu.Unlock()
		return
	}
	ended := make(chan struct{})
	s.ahead.running = ended
	s.mu.Unlock()

	name := filepath.Join(s.dir, preparedName)
	f, err := vfs.CreateFresh(s.fsys, name)
	if err == nil {
		if err = s.fill(f, size); err != nil {
			// The writer does without: it allocates as it goes.
			_ = f.Close()
			_ = s.discard(name)
		}
	}
	s.mu.Lock()
	if err == nil {
		s.ahead.file, s.ahead.size = f, size
	}
	s.ahead.pending, s.ahead.running = false, nil
	s.mu.Unlock()
	close(ended)
}

var errStopped = errors.New("wal: stopped")

// fill zeroes a file in steps, each synced, so that the log writer's own syncs
// never wait behind much of it.
func (s *Store) fill(f vfs.File, size int64) error {
	for at := int64(0); at < size; at += growthStep {
		s.mu.Lock()
		stop := s.ahead.stop
		s.mu.Unlock()
		if stop {
			return errStopped
		}
		if err := allocate(f, at, min(at+growthStep, size)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// stopAhead waits for a preparation that has begun, and removes what was prepared.
func (s *Store) stopAhead() error {
	s.mu.Lock()
	s.ahead.stop = true
	running := s.ahead.running
	s.mu.Unlock()
	if running != nil {
		<-running
	}
	s.mu.Lock()
	f := s.ahead.file
	s.ahead.file = nil
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return errors.Join(f.Close(), s.discard(filepath.Join(s.dir, preparedName)))
}

// createSegment makes the file of a new segment: header and name are durable when
// it returns. It takes the prepared file if there is one; if it is still being
// prepared, the segment after this one will have it. ErrNoSpace leaves all as it was.
func (s *Store) createSegment(h segmentHeader, first int64) (*segment, error) {
	s.mu.Lock()
	f, size := s.ahead.file, s.ahead.size
	s.ahead.file = nil
	s.mu.Unlock()
	temp := filepath.Join(s.dir, preparedName)
	if f == nil {
		temp = filepath.Join(s.dir, segmentTempName)
		size = max(alignSector(segmentHeaderSize+first+rollSize), min(segmentTarget(h.number, s.limit), growthStep))
		var err error
		if f, err = s.createInline(temp, size); err != nil {
			return nil, err
		}
	}
	h.allocated = size
	_, err := f.WriteAt(h.encode(), 0)
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

func (s *Store) createInline(name string, size int64) (vfs.File, error) {
	f, err := vfs.CreateFresh(s.fsys, name)
	if err != nil {
		return nil, noSpace(err)
	}
	if err = allocate(f, 0, size); err == nil {
		return f, nil
	}
	return nil, errors.Join(noSpace(err), f.Close(), s.discard(name))
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
