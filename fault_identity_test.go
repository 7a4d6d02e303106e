package raft

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFault081_WipedServerElectsNobody(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				leader, wiped, behind := c.leader().Name(), c.followers()[0], c.followers()[1]
				c.Isolate(behind)
				c.put("on two servers")
				c.Stop(wiped)
				require.NoError(t, c.Wipe(wiped))
				c.Heal()
				c.Isolate(leader)
				require.NoError(t, c.Start(wiped))
				// Whoever set it up again may well have named the members.
				for _, peer := range c.Names() {
					require.NoError(t, c.Server(wiped).AddPeer(peer, c.ConnectionString(peer)))
				}

				// Only the two that lack the entry can talk: they elect nobody.
				for range 40 {
					c.pass(testElection)
					for _, name := range []string{wiped, behind} {
						require.NotEqual(t, Leader, c.Server(name).State())
					}
				}
				require.True(t, c.Server(wiped).IsLogEmpty())

				c.Heal()
				c.within(10*testElection, "the leader to be back", func() bool {
					return c.Leader() != nil && c.Server(behind).Status().LastApplied == c.leader().Status().LastIndex
				})
				require.Equal(t, leader, c.leader().Name())
				require.Contains(t, c.journal(behind).values(), "on two servers")
				c.put("without the wiped one")
				require.True(t, c.Server(wiped).IsLogEmpty(), "it takes nothing before it is taken in anew")

				// Taken in anew it is another member of the same name.
				require.NoError(t, c.Join(c.ctx, wiped))
				c.put("with it")
				c.converge()
				c.Crash(behind)
				c.put("by its vote")
			})
		})
	}
}

func TestFault081_WipedServerDoesNotFoundAnother(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		cluster := c.leader().ClusterID()
		wiped := c.followers()[0]
		c.Stop(wiped)
		require.NoError(t, c.Wipe(wiped))
		require.NoError(t, c.Start(wiped))
		for _, peer := range c.Names() {
			require.NoError(t, c.Server(wiped).AddPeer(peer, c.ConnectionString(peer)))
		}
		done := c.async(c.Server(wiped), &DefaultJoinCommand{Name: wiped, ConnectionString: c.ConnectionString(wiped)})
		c.pass(40 * testElection)
		c.put("x")
		require.NotEqual(t, Leader, c.Server(wiped).State())
		require.Equal(t, cluster, c.leader().ClusterID())
		require.NoError(t, c.Join(c.ctx, wiped))
		c.converge()
		<-done
	})
}

func TestFault082_TwoClustersDoNotMerge(t *testing.T) {
	inCluster(t, 2, ClusterOptions{}, func(c *clusterTest) {
		require.NoError(t, c.StartAll())
		a, b := c.Server("s1"), c.Server("s2")
		for _, server := range []Server{a, b} {
			_, err := server.Do(&DefaultJoinCommand{Name: server.Name(), ConnectionString: c.ConnectionString(server.Name())})
			require.NoError(t, err)
			_, err = server.Do(&testCommand{"of " + server.Name()})
			require.NoError(t, err)
		}
		require.NotEqual(t, a.ClusterID(), b.ClusterID())
		before := b.Status()

		// Each is told of the other.
		_, err := a.Do(&DefaultJoinCommand{Name: "s2", ConnectionString: c.ConnectionString("s2")})
		require.NoError(t, err)
		c.pass(40 * testElection)
		for i, server := range []Server{a, b} {
			require.Equal(t, Leader, server.State())
			require.Equal(t, 1, server.QuorumSize())
			_, err := server.Do(&testCommand{"still of " + server.Name()})
			require.NoError(t, err)
			require.Equal(t, []string{"of " + server.Name(), "still of " + server.Name()}, c.lives[i].values())
		}
		after := b.Status()
		require.Equal(t, before.ClusterID, after.ClusterID)
		require.Equal(t, before.Term, after.Term)
		require.Equal(t, before.LastIndex+1, after.LastIndex)
		require.NotZero(t, after.Refused)
		_, err = b.Do(&DefaultJoinCommand{Name: "s1", ConnectionString: c.ConnectionString("s1")})
		require.NoError(t, err)
		c.pass(40 * testElection)
		require.Equal(t, Leader, a.State())
		require.Equal(t, Leader, b.State())
		c.lives = nil // two clusters apply different entries
	})
}
