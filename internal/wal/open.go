package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/goraft/raft/internal/vfs"
)

// Open opens the store in a directory, or creates one, and shows the log to the
// visitor. What it returns is durable, even what a process that was killed had
// written and not synced.
//
// It refuses with ErrLocked a directory that is in use, with ErrForeignLog a path
// that is a file, with ErrFormat files of another format, and with ErrCorrupt
// anything that is damaged, missing, or does not belong together; then nothing is
// changed. A directory is new only if it has neither identity nor entries.
func Open(o Options) (*Store, error) {
	s := &Store{fsys: o.FS, dir: filepath.Clean(o.Dir), limit: o.MaxSegmentBytes, chunk: o.chunk}
	if s.limit <= 0 {
		s.limit = defaultMaxSegment
	}
	s.limit = max(s.limit, 2*sectorSize)
	if s.chunk <= 0 {
		s.chunk = chunkSize
	}
	info, err := s.fsys.Stat(s.dir)
	if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%w: %s", ErrForeignLog, s.dir)
	}
	if err := vfs.MkdirAll(s.fsys, s.dir); err != nil {
		return nil, noSpace(err)
	}
	if s.lock, err = s.fsys.Lock(filepath.Join(s.dir, lockName)); err != nil {
		return nil, noSpace(err)
	}
	if err := s.open(o); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

func (s *Store) open(o Options) error {
	numbers, err := s.sweep()
	if err != nil {
		return err
	}
	s.bootstrap = newPair(s.fsys, s.dir, identityMagic, identityNameA, identityNameB)
	s.state = newPair(s.fsys, s.dir, stateMagic, stateNameA, stateNameB)
	err = s.bootstrap.load()
	if errors.Is(err, fs.ErrNotExist) {
		return s.create(o, numbers)
	}
	if err != nil {
		return err
	}
	if s.identity, err = decodeIdentity(s.bootstrap); err != nil {
		return err
	}
	err = s.state.load()
	if errors.Is(err, fs.ErrNotExist) {
		return corrupt(s.state.names[0], 0, "missing, though the store is not new")
	}
	if err != nil {
		return err
	}
	s.repaired = append(s.bootstrap.bad, s.state.bad...)
	if s.state.storeID != s.identity.StoreID {
		return corrupt(s.state.names[0], 16, "of store %016x, the directory is of %016x", s.state.storeID, s.identity.StoreID)
	}
	if s.hard, err = decodeHardState(s.state); err != nil {
		return err
	}
	s.seed = Seed(s.identity.StoreID)
	return s.recover(numbers, o.Visitor)
}

// Exists reports whether the directory is, or may be, that of a store, without
// touching anything: only one that has no identity at all is none.
func Exists(fsys vfs.FS, dir string) bool {
	for _, name := range []string{identityNameA, identityNameB} {
		if _, err := fsys.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// sweep removes temporary files and returns the numbers of the segments, in order.
func (s *Store) sweep() ([]uint64, error) {
	names, err := s.fsys.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, name := range names {
		if number, ok := segmentNumber(name); ok {
			numbers = append(numbers, number)
		} else if slices.Contains(temporary[:], name) {
			if err := s.fsys.Remove(filepath.Join(s.dir, name)); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// create makes a new store. The identity comes last: what a crash leaves before it
// is there was never used, is recognized by that, and made anew.
func (s *Store) create(o Options, numbers []uint64) error {
	if err := s.unused(numbers); err != nil {
		return err
	}
	id, err := drawStoreID(o.StoreID)
	if err != nil {
		return err
	}
	s.identity = Identity{StoreID: id}
	s.seed = Seed(id)
	seg, err := s.createSegment(segmentHeader{storeID: id, number: 1, first: 1}, 0)
	if err != nil {
		return err
	}
	s.view = view{first: 1, segments: []*segment{seg}}
	s.writer = writer{seg: seg, off: segmentHeaderSize, prev: seg.header.checksum}
	if err := s.state.create(id, encodeHardState(HardState{})); err != nil {
		return noSpace(err)
	}
	return noSpace(s.bootstrap.create(id, encodeIdentity(s.identity)))
}

func drawStoreID(draw func() uint64) (uint64, error) {
	if draw == nil {
		draw = func() uint64 {
			var b [8]byte
			_, _ = rand.Read(b[:]) // never fails
			return binary.LittleEndian.Uint64(b[:])
		}
	}
	id := draw()
	if id == 0 {
		return 0, errors.New("wal: a store id of 0")
	}
	return id, nil
}

// unused removes what the creation of a store left behind when it was cut short,
// and refuses a store that has lost its identity.
func (s *Store) unused(numbers []uint64) error {
	lost := func(why string) error {
		return corrupt(filepath.Join(s.dir, identityNameA), 0, "missing, though %s", why)
	}
	if len(numbers) > 1 || len(numbers) == 1 && numbers[0] != 1 {
		return lost("there are segments")
	}
	for range numbers {
		seg, err := openSegment(s.fsys, s.dir, 1)
		if err != nil {
			return err
		}
		blank, err := seg.blank(&window{file: seg.file, buf: make([]byte, min(seg.allocated, 64<<10))}, segmentHeaderSize)
		if err = errors.Join(err, seg.file.Close()); err != nil {
			return err
		}
		if !blank {
			return lost("there is a log")
		}
	}
	err := s.state.load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	h, err := decodeHardState(s.state)
	if err = errors.Join(err, s.state.close()); err != nil {
		return err
	}
	if h != (HardState{}) || s.state.seq != 1 {
		return lost("there is a hard state")
	}
	// Both go before one of the new store is made: two copies of different stores would
	// be refused if this start were cut short, too.
	for _, name := range s.state.names {
		if err := s.discard(name); err != nil {
			return err
		}
	}
	return s.fsys.SyncDir(s.dir)
}
