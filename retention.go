package raft

import (
	"cmp"
	"slices"

	"github.com/goraft/raft/internal/snapshot"
)

const (
	// keptSnapshots is how many snapshots a server keeps: the log reaches back to
	// the older of the two, so that it can do without the newest.
	keptSnapshots = 2
	// maxKeptSnapshots bounds what is kept for the sake of followers that are being
	// sent a snapshot, and need the log behind it next.
	maxKeptSnapshots = 4
)

// keepSnapshot takes notice of a snapshot that was published, and drops what no
// longer has to be kept for it: older snapshots, and the log before them.
func (l *eventLoop) keepSnapshot(info snapshot.Info) {
	kept := slices.DeleteFunc(slices.Clone(l.snapshots), func(old snapshot.Info) bool { return old.Index == info.Index })
	kept = append(kept, info)
	slices.SortFunc(kept, func(a, b snapshot.Info) int { return cmp.Compare(b.Index, a.Index) })
	// What lies before the beginning of the log leads nowhere.
	n := 1
	for n < len(kept) && kept[n].Index >= l.raft.log.base.index && l.needsSnapshot(n, kept[n].Index) {
		n++
	}
	l.snapshots = kept[:n:n]
	newest, oldest := kept[0].Index, kept[n-1].Index
	// All of them: a crash may have left some that nobody knows of any more.
	l.remove(slices.DeleteFunc(l.run.snapshots.Labels(), func(label snapshot.Label) bool { return label.Index >= oldest }))
	if n >= keptSnapshots {
		// One that was received may lie beyond what is applied here, from the log.
		l.compact(min(oldest, newest-min(newest, NumberOfLogEntriesAfterSnapshot), l.applier.applied.Load()))
	}
}

// needsSnapshot reports whether the snapshot at index is to be kept, given how
// many newer ones are.
func (l *eventLoop) needsSnapshot(newer int, index uint64) bool {
	if newer < keptSnapshots || l.office == nil {
		return newer < keptSnapshots
	}
	for _, s := range l.office.senders {
		if sending := s.shipping.Load(); sending != 0 && sending <= index && newer < maxKeptSnapshots {
			return true
		}
	}
	return false
}

// unsound takes notice that the file of a snapshot is damaged. The one before it does
// as well for who needs one, because the log reaches back to it; and the applier
// takes another one in its place.
func (l *eventLoop) unsound(info snapshot.Info) {
	i := slices.IndexFunc(l.snapshots, func(s snapshot.Info) bool { return s.Label == info.Label && s.ID == info.ID })
	if i < 0 {
		return
	}
	if len(l.snapshots) > 1 {
		l.snapshots = slices.Delete(slices.Clone(l.snapshots), i, i+1)
	}
	l.retake()
}

// remove deletes the files of snapshots, in time.
func (l *eventLoop) remove(labels []snapshot.Label) {
	if len(labels) == 0 {
		return
	}
	l.tasks.Go("snapshot", func() {
		for _, label := range labels {
			if err := l.run.snapshots.Remove(label); err != nil && l.ctx.Err() == nil {
				l.log.Warn("raft: removing a snapshot", "index", label.Index, "error", err)
			}
		}
	})
}

// compact drops the log up to and including index, which a snapshot covers.
func (l *eventLoop) compact(index uint64) {
	r := l.raft
	if index <= r.log.base.index || index > r.commitIndex {
		return
	}
	r.log.compact(entryID{index, r.log.termAt(index)})
	l.want().compact = index + 1
}

// newestSnapshot is what followers that need a snapshot are sent.
func (l *eventLoop) newestSnapshot() *snapshot.Info {
	if len(l.snapshots) == 0 {
		return nil
	}
	return &l.snapshots[0]
}
