package storage

import (
	"testing"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
)

// Whatever a call has promised is there after a crash that keeps every byte of every
// file, and of the changes to directories only those that were synced, or any of the
// others: names that were created, renamed and removed.
func TestFault100_NamesAreDurableWhenCallsReturn(t *testing.T) {
	world := world{first: 1, snapshots: map[snapshot.Label][]byte{}}
	disk := vfs.NewMem()
	options := wal.Options{FS: disk, Dir: logDir, MaxSegmentBytes: 1024, StoreID: func() uint64 { return 9 }}
	store, err := wal.Open(options)
	must(t, err)
	files, err := snapshot.Open(disk, snapshotDir)
	must(t, err)
	calls := []call{{verb: "seal"}, {verb: "vote", term: 1, count: 1}}
	for i := uint64(1); i <= 24; i++ {
		calls = append(calls, call{verb: "append", index: i, term: 2, count: 1, commit: i - 1})
	}
	calls = append(calls,
		call{verb: "truncate", index: 24, commit: 22}, call{verb: "vote", term: 3, count: 2},
		call{verb: "take", index: 9, term: 2, commit: 22}, call{verb: "take", index: 20, term: 2, commit: 22},
		call{verb: "compact", index: 10}, call{verb: "remove", index: 9, term: 2},
		call{verb: "receive", index: 40, term: 3}, call{verb: "reset", index: 41, commit: 40},
		call{verb: "compact", index: 41}, call{verb: "remove", index: 20, term: 2},
		call{verb: "append", index: 41, term: 4, count: 9, commit: 40},
	)
	rng := seeded(100)
	for _, c := range calls {
		must(t, c.do(store, files))
		first, _ := store.Bounds()
		c.happen(&world, first)
		for try := range 5 {
			left := disk.CrashClone(func(change vfs.Pending) bool {
				inFile := change.Kind == vfs.OpWrite || change.Kind == vfs.OpTruncate
				return inFile || try > 0 && rng.IntN(2) == 0
			})
			o := options
			o.FS = left
			s, err := wal.Open(o)
			must(t, err)
			f, err := snapshot.Open(left, snapshotDir)
			must(t, err)
			if diff := world.differs(s, f, true); diff != "" {
				t.Fatalf("after %v: %s", c, diff)
			}
			must(t, s.Close())
		}
	}
	must(t, store.Close())
}
