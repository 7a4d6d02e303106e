package raft

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An Apply that Stop has left behind may change the state any time. LoadSnapshot
// must not believe that the state it gave is what Init finds.
func TestSnapshotIsNotLoadedBesideApply(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		free := make(chan struct{})
		c.during = func(_ Context, value string) {
			if value == "slow" {
				<-free
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		c.puts("a", 1, 5)
		s := c.Server("s1").(*server)
		require.NoError(t, s.TakeSnapshot())
		waiting := c.async(s, &testCommand{"slow"})
		c.pass(testElection)
		s.Stop()
		<-waiting
		require.ErrorIs(t, s.LoadSnapshot(), ErrStillRunning)
		close(free)
		c.pass(testElection)
		c.journal("s1").forget()
		require.NoError(t, s.LoadSnapshot())
		require.NoError(t, s.Start())
		c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
		c.put("b")
	})
}
