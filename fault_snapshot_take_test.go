package raft

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// requireExact checks that a snapshot holds exactly what was applied up to its
// label, and returns how much that is.
func (c *clusterTest) requireExact(name string, label snapshot.Label) int {
	c.t.Helper()
	saved, all := c.savedJournal(name, label), c.journal(name).entries()
	require.True(c.t, prefixOf(saved, all), "%s: %v", name, label)
	n := len(saved)
	if n > 0 {
		require.LessOrEqual(c.t, saved[n-1].index, label.Index, name)
	}
	if n < len(all) {
		require.Greater(c.t, all[n].index, label.Index, "%s has applied it before the snapshot, and it is not in it", name)
	}
	return n
}

// TestFault088_ApplyRunsWhileAViewIsWritten: the view is of one moment, its label
// is that moment's, and nothing is applied twice on the strength of it.
func TestFault088_ApplyRunsWhileAViewIsWritten(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		var mu sync.Mutex
		var hold chan struct{} // while it is not nil, views wait for it
		held := func() chan struct{} {
			mu.Lock()
			defer mu.Unlock()
			return hold
		}
		views := c.streamed(300<<10, func(string, int64) error {
			if wait := held(); wait != nil {
				<-wait
			}
			return nil
		})
		require.NoError(t, c.Bootstrap(c.ctx))
		c.puts("a", 1, 20)
		leader := c.leader()
		for round := range 3 {
			mu.Lock()
			hold = make(chan struct{})
			mu.Unlock()
			at := leader.Status().LastApplied
			done := make(chan error, 1)
			go func() { done <- leader.TakeSnapshot() }()
			c.within(testElection, "the view", func() bool { return views.Load() == 1 })
			require.EqualError(t, leader.TakeSnapshot(), "Snapshot: Last snapshot is not finished.")
			c.puts(fmt.Sprint("b", round, "-"), 1, 50)
			require.Len(t, done, 0)
			require.Equal(t, at+50, leader.Status().LastApplied)
			close(held())
			mu.Lock()
			hold = nil
			mu.Unlock()
			require.NoError(t, <-done)
			require.Zero(t, views.Load())
			label := c.snapshots(leader.Name())[0]
			require.Equal(t, at, label.Index)
			require.Equal(t, 20+50*round, c.requireExact(leader.Name(), label))
		}
		c.converge()
		for _, name := range c.Names() {
			require.NoError(t, c.Restart(name))
		}
		c.put("after")
		c.converge()
		require.Equal(t, 1, c.journal(leader.Name()).recovered)
		require.Len(t, c.journal(leader.Name()).entries(), 171)
	})
}

// TestFault088_LabelIsExact: whenever a snapshot is taken under load, by whatever
// is asked or by itself.
func TestFault088_LabelIsExact(t *testing.T) {
	for _, streams := range []bool{false, true} {
		options := ClusterOptions{Options: []Option{WithSnapshotTrigger(37, 0)}}
		inCluster(t, 3, options, func(c *clusterTest) {
			if streams {
				c.streamed(0, nil)
			}
			require.NoError(t, c.Bootstrap(c.ctx))
			leader := c.leader()
			seen := map[snapshot.Label]bool{}
			for round := range 60 {
				var writers sync.WaitGroup
				for i := range 7 {
					writers.Go(func() { c.async(leader, &testCommand{fmt.Sprint(round, "-", i)}) })
				}
				if round%5 == 0 {
					err := leader.TakeSnapshot()
					if err != nil {
						require.Equal(t, errSnapshotBusy, err)
					}
				}
				writers.Wait()
				c.pass(time.Millisecond)
				for _, label := range c.snapshots(leader.Name()) {
					if !seen[label] {
						c.requireExact(leader.Name(), label)
					}
					seen[label] = true
				}
			}
			require.Greater(t, len(seen), 10)
			c.converge()
			for _, name := range c.Names() {
				require.NoError(t, c.Restart(name))
			}
			c.converge()
			require.Len(t, c.journal("s1").entries(), 420)
		})
	}
}

// snapshotFailures are ways in which one attempt at a snapshot fails; each sets
// one up and returns what ends it.
var snapshotFailures = map[string]func(c *clusterTest, broken *atomic.Bool, disk *vfs.Mem){
	"Save fails": func(c *clusterTest, broken *atomic.Bool, _ *vfs.Mem) {
		c.saving = func(string) error {
			if broken.Load() {
				return syscall.ENOSPC
			}
			return nil
		}
	},
	"Save panics": func(c *clusterTest, broken *atomic.Bool, _ *vfs.Mem) {
		c.saving = func(string) error {
			if broken.Load() {
				panic("test: Save")
			}
			return nil
		}
	},
	"the file cannot be made":      diskFailure(vfs.OpCreate, 0),
	"the disk is full":             diskFailure(vfs.OpWrite, 0),
	"the disk fills up":            diskFailure(vfs.OpWrite, 2),
	"the file cannot be synced":    diskFailure(vfs.OpSync, 0),
	"the file cannot be renamed":   diskFailure(vfs.OpRename, 0),
	"the directory cannot be":      diskFailure(vfs.OpSyncDir, 0),
	"the file cannot be read back": diskFailure(vfs.OpRead, 0),
}

// diskFailure fails a kind of call on the files of snapshots, after some.
func diskFailure(kind vfs.OpKind, after int) func(*clusterTest, *atomic.Bool, *vfs.Mem) {
	return func(_ *clusterTest, broken *atomic.Bool, disk *vfs.Mem) {
		calls := 0
		disk.SetFault(func(op vfs.Op) error {
			if op.Kind != kind || !underSnapshot(op) && op.Name != "s1/snapshot" || !broken.Load() {
				return nil
			}
			if calls++; calls <= after {
				return nil
			}
			return syscall.ENOSPC
		})
	}
}

// TestFault089_OneFailureBlocksNoLaterSnapshot: what failed is told, nothing is
// left of it, the log is as it was, and the next attempt succeeds.
func TestFault089_OneFailureBlocksNoLaterSnapshot(t *testing.T) {
	for name, fail := range snapshotFailures {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprint(name, streams), func(t *testing.T) {
				inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
					var broken atomic.Bool
					views := new(atomic.Int64)
					if streams {
						views = c.streamed(1<<20, nil)
					}
					var told atomic.Int64
					c.options.Configure = func(_ string, s Server) {
						s.AddEventListener(SnapshotFailedEventType, func(e Event) {
							if e.Value().(string) == s.Status().SnapshotError {
								told.Add(1)
							}
						})
					}
					disk := c.node("s1").disk.Load()
					fail(c, &broken, disk)
					require.NoError(t, c.Bootstrap(c.ctx))
					s := c.Server("s1")
					c.puts("a", 1, 100)
					require.NoError(t, s.TakeSnapshot())
					c.puts("b", 1, 100)
					good := c.snapshots("s1")
					for range 3 {
						broken.Store(true)
						require.Error(t, s.TakeSnapshot())
						broken.Store(false)
						require.NotEmpty(t, s.Status().SnapshotError)
						require.Equal(t, good, c.snapshots("s1"))
						names, err := disk.ReadDir("s1/snapshot")
						require.NoError(t, err)
						require.Len(t, names, len(good), "left over: %v", names)
						require.EqualValues(t, 1, s.Status().FirstIndex)
						require.Zero(t, views.Load(), "views that were not released")
						require.NoError(t, s.Err())
						c.put("after")
					}
					c.pass(time.Millisecond)
					require.EqualValues(t, 3, told.Load())
					require.NoError(t, s.TakeSnapshot())
					require.Empty(t, s.Status().SnapshotError)
					c.requireExact("s1", c.snapshots("s1")[0])
					require.NoError(t, c.Restart("s1"))
					c.put("restarted")
					require.Len(t, c.journal("s1").entries(), 204)
				})
			})
		}
	}
}

// TestFault089_WritingFails: a view that fails, or panics, in the middle of its
// state.
func TestFault089_WritingFails(t *testing.T) {
	for _, fail := range []func() error{
		func() error { return errors.New("test: WriteTo") },
		func() error { panic("test: WriteTo") },
	} {
		inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
			var broken atomic.Bool
			views := c.streamed(1<<20, func(_ string, written int64) error {
				if broken.Load() && written > 600<<10 {
					return fail()
				}
				return nil
			})
			require.NoError(t, c.Bootstrap(c.ctx))
			s := c.Server("s1")
			c.puts("a", 1, 10)
			broken.Store(true)
			require.ErrorContains(t, s.TakeSnapshot(), "test: WriteTo")
			require.Zero(t, views.Load())
			require.Empty(t, c.snapshots("s1"))
			broken.Store(false)
			require.NoError(t, s.TakeSnapshot())
			require.NoError(t, c.Restart("s1"))
			c.put("after")
			require.Len(t, c.journal("s1").entries(), 11)
		})
	}
}

// TestFault089_AutomaticSnapshotsGoOn: the ones that nobody asks for are tried
// again, sooner than a whole trigger later.
func TestFault089_AutomaticSnapshotsGoOn(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithSnapshotTrigger(100, 0)}}
	inCluster(t, 1, options, func(c *clusterTest) {
		var attempts, healthy atomic.Int64
		c.saving = func(string) error {
			attempts.Add(1)
			if healthy.Load() == 0 {
				return syscall.ENOSPC
			}
			return nil
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		s := c.Server("s1")
		c.puts("a", 1, 300)
		require.GreaterOrEqual(t, attempts.Load(), int64(15))
		require.LessOrEqual(t, attempts.Load(), int64(25))
		require.NotEmpty(t, s.Status().SnapshotError)
		healthy.Store(1)
		c.puts("b", 1, 11)
		c.pass(time.Millisecond)
		require.Empty(t, s.Status().SnapshotError)
		require.Len(t, c.snapshots("s1"), 1)
		attempts.Store(0)
		c.puts("c", 1, 250)
		c.pass(time.Millisecond)
		require.EqualValues(t, 2, attempts.Load())
		require.Len(t, c.snapshots("s1"), 2)
	})
}
