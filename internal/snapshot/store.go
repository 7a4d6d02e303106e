// Package snapshot keeps snapshots in files, one each, in one directory. It knows
// indexes and bytes; what the state is and when a snapshot is taken or installed
// is the caller's business.
//
// A file is a header, the state in checksummed blocks, and an end; docs/format.md
// draws the bytes, docs/durability.md says what a crash leaves. Under its final
// name a file is always whole: it is made under a temporary one, by a Writer from
// a state or by a Receiver from the pieces of a file of another server, and
// published after all of it was synced and read back.
package snapshot

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/goraft/raft/internal/vfs"
)

// defaultSyncEvery is how much is written to a file before it is synced: the log,
// which is often on the same disk, waits for as long as that takes.
const defaultSyncEvery = 256 << 10

// Info describes a snapshot's file.
type Info struct {
	Header
	Size      int64 // of the file
	StateSize int64
}

// Store is the snapshots of one directory. It may be used from any goroutine, but
// publishing and removing one and the same label at the same time leaves open
// which of the two wins. Nothing has to be closed.
type Store struct {
	fsys      vfs.FS
	dir       string
	blockSize uint32
	syncEvery int64

	// mu is never held across I/O.
	mu struct {
		sync.Mutex
		labels []Label // newest first
		drafts uint64  // how many temporary names were given away
	}
}

// Open opens the snapshots in a directory, which it makes if need be. It removes
// temporary files, so the caller must hold whatever lock keeps others away. It
// reads names only: what a file holds is for Verify and Read to say.
func Open(fsys vfs.FS, dir string) (*Store, error) {
	s := &Store{fsys: fsys, dir: filepath.Clean(dir), blockSize: defaultBlockSize, syncEvery: defaultSyncEvery}
	if err := vfs.MkdirAll(fsys, s.dir); err != nil {
		return nil, err
	}
	names, err := fsys.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if isTemp(name) {
			if err := fsys.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	// A process that was killed may have renamed a file and not synced the directory.
	// The log is cut on the strength of what is listed here.
	if err := fsys.SyncDir(s.dir); err != nil {
		return nil, err
	}
	s.mu.labels = labels(names)
	return s, nil
}

// labels are those of the snapshots among some names, newest first.
func labels(names []string) (found []Label) {
	for _, name := range names {
		if l, ok := parseName(name); ok {
			found = append(found, l)
		}
	}
	slices.SortFunc(found, newestFirst)
	return found
}

func newestFirst(a, b Label) int { return b.compare(a) }

// List returns the labels of the snapshots in a directory, newest first. It
// changes nothing, and needs no lock.
func List(fsys vfs.FS, dir string) ([]Label, error) {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	return labels(names), nil
}

// Exists reports whether there is any snapshot, whole or not, in a directory,
// which itself need not exist. It changes nothing.
func Exists(fsys vfs.FS, dir string) (bool, error) {
	found, err := List(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(found) > 0, err
}

// Labels returns the labels of the snapshots, newest first: by index, then by
// term, as numbers.
func (s *Store) Labels() []Label {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.labels)
}

// Verify reads all of a snapshot and checks everything.
func (s *Store) Verify(l Label) (Info, error) {
	r, err := s.Read(l)
	if err != nil {
		return Info{}, err
	}
	info, err := r.verify(nil)
	return info, errors.Join(err, r.Close())
}

// Read opens a snapshot. It checks the header, and that the file is no shorter or
// longer than it can be.
func (s *Store) Read(l Label) (*Reader, error) { return ReadFile(s.fsys, s.dir, l) }

// Remove removes a snapshot durably. One that is not there is removed already.
// Readers that have it open go on: the system gives the file up when the last of
// them is closed.
func (s *Store) Remove(l Label) error {
	err := s.fsys.Remove(s.path(Name(l)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	s.mu.labels = slices.DeleteFunc(s.mu.labels, func(o Label) bool { return o == l })
	s.mu.Unlock()
	return s.fsys.SyncDir(s.dir)
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// has reports whether a label is listed.
func (s *Store) has(l Label) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := slices.BinarySearchFunc(s.mu.labels, l, newestFirst)
	return ok
}

// add lists a label.
func (s *Store) add(l Label) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := slices.BinarySearchFunc(s.mu.labels, l, newestFirst); !ok {
		s.mu.labels = slices.Insert(s.mu.labels, at, l)
	}
}

// newTempName returns a name that no other unfinished file of this store has.
func (s *Store) newTempName(l Label) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.drafts++
	return s.path(tempName(l, s.mu.drafts))
}
