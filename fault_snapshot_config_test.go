package raft

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/stretchr/testify/require"
)

// savedCluster is what a server's snapshot says about the cluster.
func (c *clusterTest) savedCluster(name string, label snapshot.Label) clusterState {
	c.t.Helper()
	file, err := snapshot.ReadFile(c.node(name).disk.Load(), "/"+name+"/snapshot", label)
	require.NoError(c.t, err)
	defer file.Close()
	state, err := decodeClusterState(file.Info().Meta)
	require.NoError(c.t, err)
	return state
}

// memberNames are the names of a configuration's members.
func memberNames(c *configuration) string {
	var names []string
	for _, m := range c.members {
		names = append(names, m.name)
	}
	return strings.Join(names, " ")
}

// TestFault071_ConfigurationOfTheSnapshotsIndex: a snapshot is taken by a server
// that has a later configuration in force than the last one it has applied. It
// carries the one of its own index, with that one's index, and so does a server
// that it is installed on.
func TestFault071_ConfigurationOfTheSnapshotsIndex(t *testing.T) {
	var g gate
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.during = func(ctx Context, value string) {
			if value == "held" {
				g.pass()
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		c.puts("a", 1, NumberOfLogEntriesAfterSnapshot+20)
		leader := c.leader()
		before := leader.Status()
		require.NoError(t, leader.TakeSnapshot())

		// Apply is held; a snapshot is asked for behind the entry, and the
		// configuration changes behind that.
		g.shut()
		held := c.async(leader, &testCommand{"held"})
		c.within(testElection, "Apply", g.holds)
		heldAt := leader.Status().LastIndex
		taken := make(chan error, 1)
		go func() { taken <- leader.TakeSnapshot() }()
		c.pass(1)
		added := c.Add()
		require.NoError(t, c.Start(added))
		joined := c.async(leader, &DefaultJoinCommand{Name: added, ConnectionString: c.ConnectionString(added)})
		c.within(10*testElection, "the new configuration", func() bool { return leader.Status().ConfigurationIndex > heldAt })
		changedAt := leader.Status().ConfigurationIndex
		require.Equal(t, heldAt-1, leader.Status().LastApplied)
		g.open()
		require.NoError(t, (<-held).err)
		require.NoError(t, <-taken)
		require.NoError(t, (<-joined).err)
		label := c.snapshots(leader.Name())[0]
		require.Equal(t, heldAt, label.Index)
		old := c.savedCluster(leader.Name(), label).configuration
		require.Equal(t, before.ConfigurationIndex, old.index)
		require.Equal(t, "s1 s2 s3", memberNames(old))
		require.Less(t, old.index, label.Index)
		require.Greater(t, changedAt, label.Index)

		// Right behind the change, and the change alone.
		c.converge()
		require.NoError(t, leader.TakeSnapshot())
		label = c.snapshots(leader.Name())[0]
		now := c.savedCluster(leader.Name(), label).configuration
		status := leader.Status()
		require.Equal(t, status.ConfigurationIndex, now.index)
		require.LessOrEqual(t, now.index, label.Index)
		require.Equal(t, "s1 s2 s3 s4", memberNames(now))

		// Installed elsewhere, on one that has no log to ask.
		c.compacted(now.index, "b")
		last := c.Add()
		require.NoError(t, c.Start(last))
		require.NoError(t, c.Join(c.ctx, last))
		c.converge()
		require.Equal(t, 1, c.journal(last).recovered)
		for _, restart := range []bool{false, true} {
			if restart {
				require.NoError(t, c.Restart(last))
				c.converge()
			}
			got, want := c.Server(last).Status(), c.leader().Status()
			require.Equal(t, want.ConfigurationIndex, got.ConfigurationIndex)
			require.Len(t, got.Members, 5)
			require.Equal(t, want.SnapshotIndex > 0, got.SnapshotIndex > 0)
		}
	})
}

// TestFault071_EverySnapshotUnderChanges: members join and leave while all servers
// take snapshots; each snapshot's configuration is that of its index.
func TestFault071_EverySnapshotUnderChanges(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithSnapshotTrigger(7, 0)}}
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		known := map[uint64]string{} // members by the index of their configuration
		seen := map[string]bool{}
		look := func() {
			status := c.leader().Status()
			if status.ConfigurationIndex <= status.CommitIndex {
				c.converge()
				status = c.leader().Status()
				var names []string
				for _, m := range status.Members {
					names = append(names, m.Name, fmt.Sprint(m.Voter))
				}
				known[status.ConfigurationIndex] = strings.Join(names, " ")
			}
			for name := range c.Servers() {
				for _, label := range c.snapshots(name) {
					configuration := c.savedCluster(name, label).configuration
					require.LessOrEqual(t, configuration.index, label.Index, name)
					var names []string
					for _, m := range configuration.members {
						names = append(names, m.name, fmt.Sprint(m.voter))
					}
					got := strings.Join(names, " ")
					if want, ok := known[configuration.index]; ok {
						require.Equal(t, want, got, "%s at %d", name, label.Index)
					}
					for index := range known {
						require.False(t, index > configuration.index && index <= label.Index, "%s at %d: the configuration of %d, not of %d", name, label.Index, configuration.index, index)
					}
					seen[fmt.Sprint(name, label)] = true
				}
			}
		}
		for round := range 4 {
			name := c.Add()
			require.NoError(t, c.Start(name))
			require.NoError(t, c.Join(c.ctx, name))
			for i := range 10 {
				c.put(fmt.Sprint(round, "-", i))
				look()
			}
			_, err := c.Do(c.ctx, &DefaultLeaveCommand{Name: name})
			require.NoError(t, err)
			c.Stop(name)
			for i := range 10 {
				c.put(fmt.Sprint("without ", round, "-", i))
				look()
			}
		}
		require.GreaterOrEqual(t, len(known), 8)
		require.Greater(t, len(seen), 20)
	})
}

// TestWholeStateRecovery: goraft sent a snapshot as one state, without an identity
// and without a term of its own.
func TestWholeStateRecovery(t *testing.T) {
	inBehind(t, ClusterOptions{}, nil, func(c *clusterTest, leader, behind, _ string) {
		server := c.Server(behind)
		all := c.journal(leader).entries()
		half := all[:len(all)/2]
		status := c.leader().Status()
		offer := &SnapshotRequest{LeaderName: leader, LastIndex: half[len(half)-1].index, LastTerm: status.Term}
		answer := server.RequestSnapshot(offer)
		require.True(t, answer.Success)
		var peers []*Peer
		for _, name := range c.Names() {
			peers = append(peers, &Peer{Name: name, ConnectionString: c.ConnectionString(name)})
		}
		state := writeJournal(half)
		recovery := &SnapshotRecoveryRequest{
			LeaderName: leader, LastIndex: offer.LastIndex, LastTerm: offer.LastTerm, Peers: peers, State: state,
		}
		recovered := server.SnapshotRecoveryRequest(recovery)
		for i := range state {
			state[i] = 'x' // the caller's again
		}
		require.True(t, recovered.Success)
		require.Equal(t, offer.LastIndex, recovered.CommitIndex)
		require.Equal(t, status.Term, recovered.Term)
		c.pass(1)
		require.Equal(t, half, c.journal(behind).entries())
		require.Equal(t, offer.LastIndex, server.Status().SnapshotIndex)
		require.Equal(t, offer.LastIndex+1, server.Status().FirstIndex)
		require.Len(t, server.Peers(), 2)

		// Once more, and an older one: nothing changes.
		again := *recovery
		again.State = writeJournal(half[:10])
		require.True(t, server.SnapshotRecoveryRequest(&again).Success, "it has it")
		again.LastIndex -= 5
		require.True(t, server.SnapshotRecoveryRequest(&again).Success, "it has more")
		require.Equal(t, half, c.journal(behind).entries())

		// It is durable, and the rest comes by the log or by another snapshot.
		c.Crash(behind)
		require.NoError(t, c.Start(behind))
		require.Equal(t, half, c.journal(behind).entries())
		c.Heal()
		c.converge()
		require.NoError(t, c.Restart(behind))
		c.converge()

		// A file of a snapshot is no state, however it lost its fields.
		file := append([]byte("GORAFTSS"), bytes.Repeat([]byte{1}, 100)...)
		require.Nil(t, c.Server(behind).SnapshotRecoveryRequest(&SnapshotRecoveryRequest{LeaderName: leader, LastIndex: 1e6, LastTerm: status.Term, State: file}))
	})
}

// TestStreamedStateEndToEnd: a state that no server holds twice, from a view over a
// file and a transfer to a machine that reads it piece by piece.
func TestStreamedStateEndToEnd(t *testing.T) {
	ballast := 40 << 20
	if raceDetector {
		ballast = 8 << 20
	}
	inCluster(t, 2, ClusterOptions{}, func(c *clusterTest) {
		var last *streamJournal
		c.streamed(0, nil)
		plain := c.machine
		c.machine = func(j *journal) StateMachine {
			last = plain(j).(*streamJournal)
			if j.name == "s1" {
				last.ballast = int64(ballast)
			}
			return last
		}
		require.NoError(t, c.Start("s1"))
		require.NoError(t, c.found(c.ctx, "s1"))
		c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
		c.puts("a", 1, NumberOfLogEntriesAfterSnapshot+20)
		require.NoError(t, c.Server("s1").TakeSnapshot())
		c.put("b")
		c.compacted(1, "c")
		calls := c.watchSnapshots(nil)
		require.NoError(t, c.Start("s2"))
		require.NoError(t, c.Join(c.ctx, "s2"))
		c.converge()
		require.Equal(t, "s2", last.name)
		require.Equal(t, 1, last.recovered)
		require.GreaterOrEqual(t, len(calls.sent()), ballast/maxPieceBytes)
		require.Less(t, calls.bytes(), uint64(ballast+ballast/10))
		require.LessOrEqual(t, last.largest.Load(), int64(1<<20))
		require.Greater(t, last.pieces.Load(), int64(ballast/(1<<20)))
	})
}

// Row 71: what Apply has asked for and no entry has taken up yet is part of what a
// snapshot says: the entries that asked may be gone when it is restored.
func TestFault071_SnapshotHasTheIntents(t *testing.T) {
	want := clusterState{
		configuration: newConfiguration(7, []member{{name: "s1", connectionString: "a", incarnation: 3, storeID: 5, voter: true}, {name: "s2"}}),
		intents: []intent{
			{intentID: intentID{6, 2}, name: "s3", connectionString: "c"},
			{intentID: intentID{7, 1}, remove: true, name: "s2"},
		},
	}
	want.configuration.taken = intentID{6, 1}
	b, err := encodeClusterState(&want, 9)
	require.NoError(t, err)
	got, err := decodeClusterState(b)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
