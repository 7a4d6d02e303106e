package storage

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/wal"
)

// world is the model: everything that a log and the snapshots beside it must
// remember, as plain values.
type world struct {
	first     uint64
	records   [][]byte // from index first on
	commit    uint64   // the highest that was written with a batch
	hard      wal.HardState
	identity  wal.Identity
	snapshots map[snapshot.Label][]byte // their states

	buf []byte // that differs reads into
}

func (w *world) last() uint64 { return w.first + uint64(len(w.records)) - 1 }

// term is that of an entry which the log holds.
func (w *world) term(index uint64) uint64 { return wal.Record(w.records[index-w.first]).Term() }

// holds reports whether the log holds this very entry.
func (w *world) holds(l snapshot.Label) bool {
	return l.Index >= w.first && l.Index <= w.last() && w.term(l.Index) == l.Term
}

// labels are those of the snapshots, newest first.
func (w *world) labels() []snapshot.Label {
	return slices.SortedFunc(maps.Keys(w.snapshots), func(a, b snapshot.Label) int {
		return slices.Compare([]uint64{b.Index, b.Term}, []uint64{a.Index, a.Term})
	})
}

// newest is the label of the newest snapshot, or nothing.
func (w *world) newest() (newest snapshot.Label) {
	for _, newest = range w.labels() {
		break
	}
	return newest
}

func (w world) clone() world {
	w.records, w.snapshots = slices.Clone(w.records), maps.Clone(w.snapshots)
	return w
}

// append puts records into the log in place of everything from index first on.
func (w *world) append(first uint64, b []byte) {
	for w.truncate(first); len(b) > 0; {
		r, rest, _ := wal.NextRecord(b)
		w.records, b = append(w.records, r), rest
	}
}

func (w *world) truncate(from uint64) {
	if from <= w.last() {
		w.records = w.records[:from-w.first]
	}
}

func (w *world) reset(next uint64) { w.records, w.first = nil, next }

func (w *world) compact(to uint64) {
	if to > w.first {
		w.records = w.records[min(to-w.first, uint64(len(w.records))):]
		w.first = to
	}
}

// differs says what the disk remembers wrongly, or nothing. whole has the states of
// the snapshots read too.
func (w *world) differs(s *wal.Store, files *snapshot.Store, whole bool) string {
	id := s.Identity()
	switch {
	case id.ClusterID != w.identity.ClusterID || !bytes.Equal(id.Initial, w.identity.Initial):
		return fmt.Sprintf("identity %+v, want %+v", id, w.identity)
	case s.HardState() != w.hard:
		return fmt.Sprintf("hard state %+v, want %+v", s.HardState(), w.hard)
	case s.CommitIndex() != w.commit:
		return fmt.Sprintf("commit index %d, want %d", s.CommitIndex(), w.commit)
	case !slices.Equal(files.Labels(), w.labels()):
		return fmt.Sprintf("snapshots %v, want %v", files.Labels(), w.labels())
	}
	for label, want := range w.snapshots {
		if !whole {
			break
		}
		if got, err := stateOf(files, label); err != nil || !bytes.Equal(got, want) {
			return fmt.Sprintf("snapshot %v has %d bytes, %v, want %d", label, len(got), err, len(want))
		}
	}
	first, last := s.Bounds()
	if first != w.first || last != w.last() {
		return fmt.Sprintf("bounds %d..%d, want %d..%d", first, last, w.first, w.last())
	}
	if first > last {
		return ""
	}
	b, err := s.Read(w.buf[:0], first, last, 1<<30)
	w.buf = b
	if err != nil {
		return err.Error()
	}
	for _, want := range w.records {
		if !bytes.HasPrefix(b, want) {
			return fmt.Sprintf("another record in the place of %d", wal.Record(want).Index())
		}
		b = b[len(want):]
	}
	if len(b) > 0 {
		return fmt.Sprintf("%d bytes of records behind the last one", len(b))
	}
	return ""
}

// gap says what is wrong with the log and the newest snapshot together, or nothing:
// the one begins where the other ends, or before, and what is committed is in one
// of them.
func (w *world) gap(commit uint64) string {
	newest := w.newest()
	switch {
	case w.first > newest.Index+1:
		return fmt.Sprintf("a gap: the log begins at %d, the newest snapshot ends at %d", w.first, newest.Index)
	case max(w.last(), newest.Index) < commit:
		return fmt.Sprintf("%d is committed, the log ends at %d, the newest snapshot at %d", commit, w.last(), newest.Index)
	case newest.Index >= w.first && newest.Index <= min(w.last(), commit) && !w.holds(newest):
		return fmt.Sprintf("entry %d is committed, and not that of the snapshot of term %d", newest.Index, newest.Term)
	}
	return ""
}
