package raft

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/wal"
)

// loadedSnapshot is what LoadSnapshot gave to the state machine before Init.
type loadedSnapshot struct {
	info    snapshot.Info
	cluster clusterState
}

// restoredSnapshot holds the loadedSnapshot that is still to be taken up.
type restoredSnapshot struct{ atomic.Pointer[loadedSnapshot] }

// is reports, once, whether the state machine holds this very snapshot and
// nothing else, because LoadSnapshot restored it.
func (r *restoredSnapshot) is(info snapshot.Info) bool {
	loaded := r.Swap(nil)
	return loaded != nil && loaded.info.Label == info.Label && loaded.info.ID == info.ID
}

func (s *server) LoadSnapshot() error {
	if r := s.lifecycle.run.Load(); r != nil && (r.applier.inside.isCaller() || s.lifecycle.state.Load() != phaseStopped) {
		return nil // Init has restored it
	}
	if s.lifecycle.loading.isCaller() {
		return ErrReentrant
	}
	s.lifecycle.lock()
	defer s.lifecycle.unlock()
	switch s.lifecycle.state.Load() {
	case phaseNone:
	case phaseStopped:
		// An Apply that Stop has left behind would change what is loaded here.
		if err := s.lifecycle.run.Load().endWithin(0); err != nil {
			return err
		}
	default:
		return nil
	}
	labels, err := snapshot.List(s.options.fs, s.snapshotDir())
	if err != nil {
		return err
	}
	if err := s.checkWipe(len(labels) > 0); err != nil {
		return err
	}
	for _, label := range labels {
		err := s.loadSnapshot(label)
		if !errors.Is(err, snapshot.ErrCorrupt) {
			return err
		}
		s.options.logger.Warn("raft: passing over a damaged snapshot", "server", s.name, "error", err)
	}
	return nil
}

// loadSnapshot gives a snapshot to the state machine, once all of it is verified.
func (s *server) loadSnapshot(label snapshot.Label) error {
	file, err := snapshot.ReadFile(s.options.fs, s.snapshotDir(), label)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, file)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if file, err = snapshot.ReadFile(s.options.fs, s.snapshotDir(), label); err != nil {
		return err
	}
	defer file.Close()
	cluster, err := decodeClusterState(file.Info().Meta)
	if err != nil {
		return err
	}
	s.lifecycle.loading.enter(goroutineID())
	err = recoverMachine(s.stateMachine, file)
	s.lifecycle.loading.leave()
	if err != nil {
		return fmt.Errorf("raft: restoring the snapshot at %d: %w", label.Index, err)
	}
	s.restored.Store(&loadedSnapshot{file.Info(), cluster})
	return nil
}

// checkWipe refuses snapshots that lie beside no log: whoever deletes the one must
// delete the other.
func (s *server) checkWipe(snapshots bool) error {
	if !snapshots || wal.Exists(s.options.fs, s.LogPath()) {
		return nil
	}
	return fmt.Errorf("%w: %s has snapshots, %s has no log", ErrPartialWipe, s.snapshotDir(), s.LogPath())
}

// published is the server as LoadSnapshot leaves it.
func (l *loadedSnapshot) published(name string) *published {
	c := l.cluster.configuration
	return &published{configuration: c, status: Status{
		Name: name, State: Stopped, CommitIndex: l.info.Index, LastApplied: l.info.Index,
		FirstIndex: l.info.Index + 1, LastIndex: l.info.Index, LastTerm: l.info.Term,
		ClusterID: l.info.ClusterID, Members: membersOf(c), ConfigurationIndex: c.index,
	}}
}

// openSnapshots finds the newest snapshot that is whole, and the one before it.
// Damaged ones are passed over, and stay where they are until newer ones are kept.
func (r *run) openSnapshots() error {
	files, err := snapshot.Open(r.options.fs, r.server.snapshotDir())
	if err != nil {
		return fmt.Errorf("raft: opening %s: %w", r.server.snapshotDir(), err)
	}
	r.snapshots = files
	for _, label := range files.Labels() {
		info, err := r.known(label)
		switch {
		case errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, fs.ErrNotExist):
			r.log.Warn("raft: passing over a damaged snapshot", "error", err)
			continue
		case err != nil:
			return err
		}
		if r.found = append(r.found, info); len(r.found) == keptSnapshots {
			break
		}
	}
	return nil
}

// known reads what a snapshot is: the newest, which is to be restored, whole, and
// of an older one the header.
func (r *run) known(label snapshot.Label) (snapshot.Info, error) {
	if len(r.found) == 0 {
		return r.snapshots.Verify(label)
	}
	file, err := r.snapshots.Read(label)
	if err != nil {
		return snapshot.Info{}, err
	}
	return file.Info(), file.Close()
}

// join makes one history of the newest snapshot and the log: the log's own where
// it reaches the snapshot, else one that begins behind it. A crash may have left
// a log that ends before a snapshot that was received, or disagrees with it.
func (r *run) join(replica *replica, log *recovered) error {
	first, last := r.store.Bounds()
	if len(r.found) == 0 {
		if first > 1 {
			return fmt.Errorf("%w: the log begins at %d, and no snapshot that is whole goes before", ErrPartialWipe, first)
		}
		replica.log = log.terms
		replica.configured(log.configurations...)
		return nil
	}
	newest := r.found[0]
	id := entryID{newest.Index, newest.Term}
	cluster, err := decodeClusterState(newest.Meta)
	switch {
	case err != nil:
		return err
	case newest.ClusterID != replica.clusterID:
		return fmt.Errorf("%w: the snapshot at %d is of cluster %x, the log of cluster %x", ErrPartialWipe, newest.Index, newest.ClusterID, replica.clusterID)
	case first > newest.Index+1:
		return fmt.Errorf("%w: the log begins at %d, the last snapshot that is whole ends at %d", ErrPartialWipe, first, newest.Index)
	}
	replica.configurations = []*configuration{cluster.configuration}
	for _, info := range r.found {
		if before, err := decodeClusterState(info.Meta); err == nil {
			replica.recall(before.configuration)
		}
	}
	if last < id.index || first <= id.index && log.terms.termAt(id.index) != id.term {
		if id.index <= r.store.CommitIndex() && last >= id.index {
			return fmt.Errorf("%w: entry %d is of term %d in the log, of term %d in the snapshot", ErrInvariant, id.index, log.terms.termAt(id.index), id.term)
		}
		replica.log = history{base: id, end: id.index}
		return r.restartLog(id.index)
	}
	replica.log = log.terms
	base := id
	if len(r.found) > 1 && r.found[1].Index+1 >= first {
		base = entryID{r.found[1].Index, r.found[1].Term}
	}
	replica.log.compact(base)
	replica.log.base = base // the log alone does not know its term
	for _, c := range log.configurations {
		if c.index > id.index {
			replica.configured(c)
		} else {
			replica.recall(c)
		}
	}
	return nil
}

// restartLog empties the log on disk, which goes on behind index.
func (r *run) restartLog(index uint64) error {
	if err := r.store.Reset(index+1, index); err != nil {
		return err
	}
	return r.store.Compact(index + 1)
}
