package raft

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A server that was wiped joins, and the join is answered, before anybody has
// heard of its new store; then the leader changes.
func TestWipedMemberJoinsBeforeAnybodyHasNoticed(t *testing.T) {
	inRunningCluster(t, 5, ClusterOptions{}, func(c *clusterTest) {
		c.puts("a", 1, 3)
		c.within(20*testElection, "all names to be bound", func() bool {
			return !slices.ContainsFunc(c.leader().Status().Members, func(m MemberStatus) bool { return m.StoreID == 0 })
		})
		wiped, old := c.followers()[0], c.leader().Name()
		before := c.Server(wiped).StoreID()
		c.Crash(wiped)
		require.NoError(t, c.Wipe(wiped))
		_, err := c.Do(c.ctx, &DefaultJoinCommand{Name: wiped, ConnectionString: c.ConnectionString(wiped)})
		require.NoError(t, err)
		c.Crash(old)
		c.within(20*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader().Name() != old })
		require.NoError(t, c.Start(wiped))
		c.within(20*testElection, "its vote", func() bool {
			leader := c.Leader()
			return leader != nil && slices.ContainsFunc(leader.Status().Members, func(m MemberStatus) bool {
				return m.Name == wiped && m.Voter && m.StoreID != 0 && m.StoreID != before
			})
		})
		require.NoError(t, c.Start(old))
		c.put("b")
		c.converge()
	})
}

// A join of a leader that is leaving is not answered by what is about to end.
func TestJoinOfALeavingLeader(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		name, others := leader.Name(), c.followers()
		for _, other := range others {
			c.Network().Block(other, name) // the removal is sent, and not acknowledged
		}
		left := make(chan error, 1)
		var leaving sync.WaitGroup
		leaving.Go(func() {
			_, err := leader.DoContext(c.ctx, &DefaultLeaveCommand{Name: name})
			left <- err
		})
		c.within(testElection, "the removal in force", func() bool { return leader.Peers()[name] == nil && leader.MemberCount() == 2 })
		_, err := leader.DoContext(c.ctx, &DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)})
		require.ErrorIs(t, err, NotLeaderError)
		for _, other := range others {
			c.Network().Unblock(other, name)
		}
		<-left
	})
}
