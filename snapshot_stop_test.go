package raft

import (
	"strings"
	"testing"
	"time"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
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

// slowReads makes a disk take its time for the reading of snapshots.
func slowReads(disk *vfs.Mem) {
	disk.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && strings.HasPrefix(op.Name, "s2/snapshot/") {
			<-time.After(testElection)
		}
		return nil
	})
}

// A snapshot is read back before it gets its name, which may take longer than Stop
// waits. Stop ends it.
func TestSnapshotVerificationEndsWithStop(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		s := lonely(c)
		meta, err := encodeClusterState(&clusterState{configuration: s.now().configuration}, s.ClusterID())
		require.NoError(t, err)
		f := newSnapshotFile(t, snapshot.Header{Label: snapshot.Label{Index: 100, Term: 50}, ClusterID: s.ClusterID(), ID: 1, Meta: meta}, make([]byte, 10<<20))
		slowReads(c.node("s2").disk.Load())
		go f.send(s, "s1", 50)
		c.pass(testElection)
		s.Stop()
		c.journal("s2").forget()
		require.NoError(t, s.Start())
		s.Stop()
	})
}

// The same goes for a snapshot of its own.
func TestSnapshotTakingEndsWithStop(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		s := lonely(c)
		s.Stop()
		c.journal("s2").forget()
		s.stateMachine = large{c.journal("s2")}
		require.NoError(t, s.Start())
		c.within(testElection, "the state", func() bool { return s.Status().LastApplied == s.CommitIndex() })
		slowReads(c.node("s2").disk.Load())
		go func() { _ = s.TakeSnapshot() }()
		c.pass(testElection)
		s.Stop()
		c.journal("s2").forget()
		require.NoError(t, s.Start())
		s.Stop()
	})
}

// large is a journal with a large state.
type large struct{ *journal }

// Save is StateMachine's.
func (l large) Save() ([]byte, error) { return make([]byte, 10<<20), nil }

// What arrives is of no more use once the log has gone past it.
func TestSnapshotThatIsNoLongerNeeded(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		s := lonely(c)
		f := c.fileFor(s, snapshot.Label{Index: 20, Term: 1})
		require.True(t, s.RequestSnapshot(f.offer("s1", 1)).Success)
		require.NoError(t, c.StartAll())
		c.puts("b", 1, 30)
		c.converge()
		c.pass(testElection)
		names, err := c.node("s2").disk.Load().ReadDir("s2/snapshot")
		require.NoError(t, err)
		require.Empty(t, names)
	})
}
