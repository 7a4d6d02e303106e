package raft

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// Row 88: of many who ask for a snapshot at once one gets it, and the others hear
// that one is being taken. What they share is asked and said in one step, so that
// neither two are written at a time nor none any more.
func TestFault088_OneSnapshotAtATime(t *testing.T) {
	const callers = 16
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		var hold atomic.Pointer[chan struct{}]
		views := c.streamed(0, func(string, int64) error {
			<-*hold.Load()
			return nil
		})
		require.NoError(t, c.Bootstrap(c.ctx))
		leader := c.leader()
		for round := range volume(150, 500, 5000) {
			c.put(fmt.Sprint(round))
			held, begin := make(chan struct{}), make(chan struct{})
			hold.Store(&held)
			var busy, taken atomic.Int64
			var asking sync.WaitGroup
			for range callers {
				asking.Go(func() {
					<-begin
					switch err := leader.TakeSnapshot(); err {
					case nil:
						taken.Add(1)
					case errSnapshotBusy:
						busy.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			close(begin)
			synctest.Wait()
			require.EqualValues(t, callers-1, busy.Load(), "round %d", round)
			require.EqualValues(t, 1, views.Load(), "round %d", round)
			close(held)
			asking.Wait()
			require.EqualValues(t, 1, taken.Load(), "round %d", round)
		}
	})
}

// Row 88: a state is fixed between two entries, however long that takes: nothing is
// applied meanwhile, and the label is that of the last entry before.
func TestFault088_NothingIsAppliedWhileTheStateIsFixed(t *testing.T) {
	for _, streams := range []bool{false, true} {
		inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
			var g gate
			c.saving = func(string) error {
				g.pass()
				return nil
			}
			if streams {
				c.streamed(0, nil)
			}
			require.NoError(t, c.Bootstrap(c.ctx))
			c.puts("before", 1, 5)
			leader := c.leader()
			at := leader.Status().LastApplied
			g.shut()
			taken := make(chan error, 1)
			go func() { taken <- leader.TakeSnapshot() }()
			c.within(testElection, "the state to be asked for", g.holds)
			later := c.async(leader, &testCommand{"later"})
			c.pass(testElection)
			committed := leader.CommitIndex()
			applied := leader.Status().LastApplied
			g.open()
			require.Greater(t, committed, at)
			require.Equal(t, at, applied)
			require.NoError(t, <-taken)
			require.NoError(t, (<-later).err)
			label := c.snapshots(leader.Name())[0]
			require.Equal(t, at, label.Index)
			require.Equal(t, 5, c.requireExact(leader.Name(), label))
		})
	}
}
