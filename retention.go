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
	// maxKeptSnapshots bounds how many files are kept together with those that
	// followers are being sent.
	maxKeptSnapshots = 4
	// heldShare bounds the log that is kept for a follower that is being sent a
	// snapshot, and needs the log behind it next: so many times the size of the
	// file, or of what triggers a snapshot. Where more than that was written
	// meanwhile, another snapshot serves the follower better than the log.
	heldShare = 4
)

// keptSnapshot is a snapshot that is kept.
type keptSnapshot struct {
	snapshot.Info
	applied int64 // bytes of the log that were applied before it in this run
}

// keepSnapshot takes notice of a snapshot that was published, and drops what no
// longer has to be kept for it: older snapshots, and the log before them.
func (l *eventLoop) keepSnapshot(newer keptSnapshot) {
	all := slices.DeleteFunc(slices.Clone(l.snapshots), func(old keptSnapshot) bool { return old.Index == newer.Index })
	all = append(all, newer)
	slices.SortFunc(all, func(a, b keptSnapshot) int { return cmp.Compare(b.Index, a.Index) })
	// What lies before the beginning of the log leads nowhere.
	older := slices.IndexFunc(all[1:], func(s keptSnapshot) bool { return s.Index < l.raft.log.base.index }) + 1
	if older == 0 {
		older = len(all)
	}
	kept := all[:min(older, keptSnapshots)]
	sent := slices.DeleteFunc(slices.Clone(all[len(kept):older]), func(s keptSnapshot) bool { return !l.holdsLog(s, all[0]) })
	// Of those that are being sent the oldest come first: they are ready first, and
	// the log behind them is that behind the others, too.
	sent = sent[max(0, len(sent)-(maxKeptSnapshots-keptSnapshots)):]
	l.snapshots = slices.Concat(kept, sent)
	l.removeOthers(kept[len(kept)-1].Index)
	if len(kept) == keptSnapshots {
		newest, oldest := all[0].Index, l.snapshots[len(l.snapshots)-1].Index
		// One that was received may lie beyond what is applied here, from the log.
		l.compact(min(oldest, newest-min(newest, NumberOfLogEntriesAfterSnapshot), l.applier.applied.Load()))
	}
}

// holdsLog reports whether a follower is being sent the snapshot, or was and has
// not caught up, and the log behind it is still worth keeping for that.
func (l *eventLoop) holdsLog(s, newest keptSnapshot) bool {
	trigger := cmp.Or(l.options.snapshotTrigger.bytes, DefaultSnapshotBytes)
	if l.office == nil || newest.applied-s.applied > heldShare*max(s.Size, trigger) {
		return false
	}
	for _, sender := range l.office.senders {
		if sender.shipping.Load() == s.Index {
			return true
		}
	}
	return false
}

// removeOthers deletes the files of all snapshots before index that are not kept,
// those too that a crash or a failure of the disk has left behind.
func (l *eventLoop) removeOthers(index uint64) {
	l.remove(slices.DeleteFunc(l.run.snapshots.Labels(), func(label snapshot.Label) bool {
		return label.Index >= index || slices.ContainsFunc(l.snapshots, func(s keptSnapshot) bool { return s.Label == label })
	})...)
}

// unsound takes notice that the file of a snapshot is damaged. The one before it does
// as well for who needs one, because the log reaches back to it; and the applier
// takes another one in its place.
func (l *eventLoop) unsound(info snapshot.Info) {
	i := slices.IndexFunc(l.snapshots, func(s keptSnapshot) bool { return s.Label == info.Label && s.ID == info.ID })
	if i < 0 {
		return
	}
	if len(l.snapshots) > 1 {
		l.snapshots = slices.Delete(slices.Clone(l.snapshots), i, i+1)
	}
	l.retake()
}

// remove deletes the files of snapshots, in time.
func (l *eventLoop) remove(labels ...snapshot.Label) {
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
	return &l.snapshots[0].Info
}
