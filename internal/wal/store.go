// Package wal keeps a log of records, the hard state and the identity of a server
// on disk. It knows indexes and bytes; what they mean is its caller's.
//
// A Store is a directory: segment files with batches of records, two copies of the
// hard state, two of the identity, and a lock. docs/format.md draws the bytes,
// docs/durability.md says for every operation what a crash leaves.
//
// One goroutine, the log writer, calls the methods that write; reading and asking
// is free to all. The package starts no goroutine of its own.
package wal

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/goraft/raft/internal/vfs"

	"io"
)

// Options says where a store is and what it needs from its owner.
type Options struct {
	// FS is the file system.
	FS vfs.FS
	// Dir is the directory of the log, created with its parents if it is missing.
	Dir string
	// MaxSegmentBytes bounds the size of a segment, except for one that holds a
	// single larger batch, and for some space for seals. 0 is 64 MiB; the least is 1 KiB.
	MaxSegmentBytes int64
	// StoreID draws the id of a new store; it must not return 0. Only called when
	// the directory is new.
	StoreID func() uint64
	// Visitor is shown the log while it is recovered; it may be nil.
	Visitor Visitor

	chunk int64 // instead of chunkSize, for tests: at least a batch header, and a multiple of 8
}

// Visitor is told what the log holds, in the order in which it was written. If
// Open fails, what it was told counts for nothing.
type Visitor interface {
	// Truncate takes back every record from an index on; 0 is all of them.
	Truncate(from uint64)
	// Record is the next one. It is valid until the method returns.
	Record(r Record)
}

// Identity is the bootstrap record.
type Identity struct {
	// StoreID is drawn when the store is created, and never changes.
	StoreID uint64
	// ClusterID seeds the checksums of records. 0 says that it is not known yet.
	ClusterID uint64
	// Initial is the caller's own.
	Initial []byte
}

// HardState is what a server must remember to never vote twice in a term.
type HardState struct {
	Term     uint64
	VotedFor string
}

// TornTail says what Open cut off the end of the log: a batch that a crash had
// left unfinished, and that was therefore never acknowledged.
type TornTail struct {
	Segment string // the file
	Offset  int64
	Bytes   int64
}

// Store is an open log directory.
type Store struct {
	fsys      vfs.FS
	dir       string
	limit     int64  // of a segment's size
	chunk     int64  // see chunkSize
	seed      uint32 // of the batches' checksums: the store id's
	bootstrap *pair
	state     *pair
	lock      io.Closer
	torn      *TornTail
	repaired  []string
	writer    writer

	// mu is held for moments only: never across I/O, a channel or a callback.
	mu       sync.Mutex
	view     view
	identity Identity
	hard     HardState
	closed   bool
}

// writer is the end of the log, which only the log writer touches.
type writer struct {
	seg    *segment
	off    int64  // where the next batch goes
	prev   uint32 // checksum of the batch before it
	sealed bool   // nothing was written since the last seal
	usual  int64  // how large a batch of records is, on average of the last ones
	buf    []byte
	spill  spill
	marker marker
	unsure bool  // a change of the cluster id was refused, and may be on the disk
	failed error // the first write or sync that failed, for good
}

// Identity returns the bootstrap record. Initial is the caller's to keep.
func (s *Store) Identity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.identity
	id.Initial = slices.Clone(id.Initial)
	return id
}

// HardState returns what was saved last, or nothing.
func (s *Store) HardState() HardState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hard
}

// Bounds returns the first and the last index of the log; in an empty one last is
// first-1.
func (s *Store) Bounds() (first, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.first, s.view.last
}

// CommitIndex returns the highest commit index that was written with a batch: a
// lower bound of what was known.
func (s *Store) CommitIndex() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.commit
}

// Torn returns what Open cut off, or nil.
func (s *Store) Torn() *TornTail { return s.torn }

// Repaired returns the files that Open has made again from their other copies:
// they were missing, damaged, or behind, as a crash may leave the second one.
func (s *Store) Repaired() []string { return s.repaired }

// SaveIdentity makes the cluster id and the initial configuration durable; the
// store id is not taken from id. While the log has entries, whose checksums depend
// on it, the cluster id cannot change: ErrNotEmpty.
func (s *Store) SaveIdentity(id Identity) error {
	if err := s.writable(); err != nil {
		return err
	}
	s.mu.Lock()
	changed := id.ClusterID != s.identity.ClusterID
	refused := changed && s.view.first <= s.view.last
	s.mu.Unlock()
	if refused {
		return ErrNotEmpty
	}
	if err := s.bootstrap.save(encodeIdentity(id)); err != nil {
		s.writer.unsure = s.writer.unsure || changed
		return s.fail(err)
	}
	s.writer.unsure = false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identity.ClusterID = id.ClusterID
	s.identity.Initial = slices.Clone(id.Initial)
	return nil
}

// SaveHardState makes the hard state durable. Saving what is saved already costs
// nothing.
func (s *Store) SaveHardState(h HardState) error {
	if err := s.writable(); err != nil {
		return err
	}
	if h == s.HardState() {
		return nil
	}
	if err := s.state.save(encodeHardState(h)); err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hard = h
	return nil
}

// Close seals the log, if nothing has failed, and frees the directory. Reads that
// are under way finish. It returns what went wrong while closing; the store is
// closed all the same.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	commit := s.view.commit
	s.mu.Unlock()
	var err error
	if s.writer.failed == nil {
		err = s.Seal(commit)
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return errors.Join(err, s.release())
}

// release closes what Open has opened.
func (s *Store) release() error {
	var errs []error
	s.mu.Lock()
	idle := make([]*segment, 0, len(s.view.segments))
	for _, seg := range s.view.segments {
		if seg.dropped = true; seg.refs == 0 {
			idle = append(idle, seg)
		}
	}
	s.mu.Unlock()
	for _, seg := range idle {
		errs = append(errs, seg.file.Close())
	}
	for _, p := range []*pair{s.bootstrap, s.state} {
		if p != nil {
			errs = append(errs, p.close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// writable returns why nothing can be written any more, if so.
func (s *Store) writable() error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return s.writer.failed
}

// fail makes an error of the disk final, unless it says that the disk is full, or
// something too large, and nothing has changed.
func (s *Store) fail(err error) error {
	if errors.Is(err, ErrNoSpace) || errors.Is(err, ErrTooLarge) {
		return err
	}
	s.writer.failed = errors.Join(ErrFailed, err)
	return s.writer.failed
}

func encodeIdentity(id Identity) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, id.ClusterID), id.Initial...)
}

func decodeIdentity(p *pair) (Identity, error) {
	if len(p.payload) < 8 || p.storeID == 0 {
		return Identity{}, corrupt(p.names[0], slotHeaderSize, "not an identity")
	}
	return Identity{
		StoreID:   p.storeID,
		ClusterID: binary.LittleEndian.Uint64(p.payload),
		Initial:   slices.Clone(p.payload[8:]),
	}, nil
}

func encodeHardState(h HardState) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, h.Term), h.VotedFor...)
}

func decodeHardState(p *pair) (HardState, error) {
	if len(p.payload) < 8 {
		return HardState{}, corrupt(p.names[0], slotHeaderSize, "not a hard state")
	}
	return HardState{Term: binary.LittleEndian.Uint64(p.payload), VotedFor: string(p.payload[8:])}, nil
}
