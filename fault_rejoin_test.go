package raft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
	"github.com/stretchr/testify/require"
)

// Row 80: a server that was removed is a member again, with the data that it had,
// without any, or with data whose continuation the others have compacted.
func TestFault080_RemovedAndAddedAgain(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithSnapshotTrigger(50, 0)}}
	for _, data := range []string{"old", "none", "old, compacted", "running"} {
		t.Run(data, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				c.puts("a", 1, 5)
				c.converge()
				leader, name, stays := c.leader(), c.followers()[0], c.followers()[1]
				before := *leader.(*server).now().configuration.find(name)
				if data != "running" {
					c.Stop(name)
				}
				c.leave(name)
				c.puts("b", 1, 5)
				if data == "old, compacted" {
					c.puts("c", 1, 600)
					c.within(testElection, "compaction", func() bool { return leader.Status().FirstIndex > 100 })
				}
				if data == "none" {
					require.NoError(t, c.Wipe(name))
				}
				if data != "running" {
					require.NoError(t, c.Start(name))
				}
				again := c.Server(name)
				if data == "running" {
					c.within(testElection, "it to know", func() bool { return again.Err() == ErrRemoved })
				} else {
					// Alone, it is nothing, however often it asks.
					c.pass(20 * testElection)
					require.Equal(t, Follower, again.State())
					require.Equal(t, leader, c.Leader())
					require.Equal(t, data != "none", errors.Is(again.Err(), ErrRemoved))
				}

				value, err := leader.Do(&DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)})
				require.NoError(t, err)
				require.Equal(t, []byte("join"), value)
				require.NoError(t, c.Join(c.ctx, name))
				after := *leader.(*server).now().configuration.find(name)
				require.Greater(t, after.incarnation, before.incarnation)
				require.Equal(t, again.StoreID(), after.storeID)
				require.Equal(t, data == "none", after.storeID != before.storeID)
				c.put("end")
				c.converge()
				require.NoError(t, again.Err())
				require.Empty(t, again.Status().Error)

				// It removes nobody by what it finds in its log, and votes again.
				require.NoError(t, c.Restart(name))
				c.converge()
				require.NoError(t, c.Server(name).Err())
				c.Crash(stays)
				c.put("by its vote")
				require.Equal(t, 3, c.leader().MemberCount())
			})
		})
	}
}

// A learner that is added anew neither votes nor leads before it has caught up,
// although its old disk says that it is a voter.
func TestFault080_NotAVoterBeforeItHasCaughtUp(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.puts("a", 1, 5)
		c.converge()
		leader, name, stays := c.leader(), c.followers()[0], c.followers()[1]
		c.Stop(name)
		c.leave(name)
		require.NoError(t, leader.AddPeer(name, c.ConnectionString(name)))
		c.put("not on " + name)
		c.Network().Block(leader.Name(), name)
		require.NoError(t, c.Start(name))
		c.pass(10 * testElection)
		require.Equal(t, 2, leader.QuorumSize())
		c.Isolate(leader.Name())
		for range 40 {
			c.pass(testElection)
			for _, other := range []string{name, stays} {
				require.NotEqual(t, Leader, c.Server(other).State(), other)
			}
		}
		c.Heal()
		c.within(20*testElection, "it to vote", func() bool { return c.Leader() != nil && c.leader().QuorumSize() == 2 && c.Server(name).Err() == nil })
		c.put("end")
		c.converge()
	})
}

// Row 81: a wiped server joins before the leader has noticed that it lost its
// store. Nothing seems to change; when it shows, it is added anew, if the others
// can do without it.
func TestFault081_WipedServerJoinsBeforeItIsNoticed(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				leader, wiped, other := c.leader(), c.followers()[0], c.followers()[1]
				before := *leader.(*server).now().configuration.find(wiped)
				c.put("x")
				c.Stop(wiped)
				require.NoError(t, c.Wipe(wiped))
				value, err := leader.Do(&DefaultJoinCommand{Name: wiped, ConnectionString: c.ConnectionString(wiped)})
				require.NoError(t, err)
				require.Equal(t, []byte("join"), value)
				now := *leader.(*server).now().configuration.find(wiped)
				require.True(t, now.rejoins)
				now.rejoins = false
				require.Equal(t, before, now, "nothing else changes")

				c.Stop(other)
				c.pass(2 * testElection)
				require.NoError(t, c.Start(wiped))
				c.pass(20 * testElection)
				require.True(t, c.Server(wiped).IsLogEmpty(), "it is needed, and nobody may take it for the old one")

				require.NoError(t, c.Start(other))
				c.within(20*testElection, "the leader to be back", func() bool { return c.Leader() != nil })
				c.within(20*testElection, "it to vote again", func() bool {
					if c.Leader() == nil {
						return false
					}
					m := c.leader().(*server).now().configuration.find(wiped)
					return m.voter && m.incarnation > before.incarnation && m.storeID == c.Server(wiped).StoreID()
				})
				c.put("y")
				c.converge()
				require.Equal(t, []string{"x", "y"}, c.journal(wiped).values())
			})
			// By AddPeer too, from inside Apply or in the same term of office.
			for _, way := range []string{"join", "inside", "outside"} {
				inReformingCluster(t, 3, options, func(c *reforming) {
					leader, wiped := c.leader(), c.followers()[0]
					c.Stop(wiped)
					require.NoError(t, c.Wipe(wiped))
					switch way {
					case "join":
						_, err := leader.Do(&DefaultJoinCommand{Name: wiped, ConnectionString: c.ConnectionString(wiped)})
						require.NoError(t, err)
					case "inside":
						c.put("add " + wiped)
					case "outside":
						require.NoError(t, leader.AddPeer(wiped, c.ConnectionString(wiped)))
					}
					require.NoError(t, c.Start(wiped))
					c.within(20*testElection, "it to vote again", func() bool {
						m := leader.(*server).now().configuration.find(wiped)
						return m.voter && m.incarnation > 0 && m.storeID == c.Server(wiped).StoreID()
					})
					require.Equal(t, leader, c.Leader())
					require.Equal(t, 2, c.additions(wiped), "as one of the first, and anew")
					c.put("y")
					c.converge()
				})
			}
		})
	}
}

// Without a join, nobody adds a wiped server: it may be another one that has taken
// its address.
func TestFault081_NobodyIsAddedUnasked(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, wiped := c.leader(), c.followers()[0]
		require.NoError(t, leader.AddPeer("s9", "-"))
		require.NoError(t, leader.RemovePeer("s9"))
		c.Stop(wiped)
		require.NoError(t, c.Wipe(wiped))
		require.NoError(t, c.Start(wiped))
		index := leader.Status().ConfigurationIndex
		c.pass(40 * testElection)
		require.Equal(t, index, leader.Status().ConfigurationIndex)
		require.True(t, c.Server(wiped).IsLogEmpty())
	})
}

// Row 70: a leader that is cut off appends a change; it is in force there, over a
// restart too, until another leader's entry takes its place.
func TestFault070_ChangeThatNeverCommits(t *testing.T) {
	for _, restart := range []bool{false, true} {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			old := c.leader()
			name, gone := old.Name(), c.followers()[0]
			c.Isolate(name)
			done := c.async(old, &DefaultLeaveCommand{Name: gone})
			c.within(testElection/2, "the change to be in force", func() bool { return old.MemberCount() == 2 && old.Status().DurableIndex == old.Status().LastIndex })
			got := <-done
			requireUnknown(t, got.err)
			c.within(5*testElection, "a new leader", func() bool { return c.Leader() != nil && c.leader() != old })
			c.put("x")
			if restart {
				c.crash(c.node(name), vfs.Everything)
				require.NoError(t, c.Start(name))
			}
			require.Equal(t, 2, c.Server(name).MemberCount())
			require.Equal(t, 2, c.Server(name).QuorumSize())
			c.pass(10 * testElection)
			require.NotEqual(t, Leader, c.Server(name).State())
			c.Heal()
			c.put("y")
			c.converge()
			require.Equal(t, 3, c.Server(name).MemberCount())
			require.NoError(t, c.Restart(name))
			require.Equal(t, 3, c.Server(name).MemberCount())
			c.converge()
		})
	}
}

// Row 68: one Apply asks for three servers to be replaced by three others, of
// which they share one, while the network falls apart between them.
func TestFault068_SwapWithoutOverlap(t *testing.T) {
	for seed := range uint64(20) {
		inReformingCluster(t, 3, ClusterOptions{Seed: seed}, func(c *reforming) {
			for range 2 {
				require.NoError(t, c.Start(c.Add()))
			}
			rng := rand.New(rand.NewPCG(seed, 68))
			leaders := make(map[uint64]string)
			watch := func() {
				for name, s := range c.Servers() {
					if status := s.Status(); status.State == Leader {
						if other := leaders[status.Term]; other != "" && other != name {
							t.Errorf("%s and %s lead in term %d", other, name, status.Term)
						}
						leaders[status.Term] = name
					}
				}
			}
			c.put("add s4; add s5; remove s1; remove s2")
			for range rng.IntN(30) {
				c.pass(time.Duration(rng.Int64N(int64(testElection / 10))))
				watch()
			}
			c.Partition([]string{"s1", "s2"}, []string{"s3", "s4", "s5"})
			for range 100 {
				c.pass(testElection / 10)
				watch()
			}
			c.Heal()
			c.within(40*testElection, "the new members", func() bool {
				leader := c.Leader()
				if leader == nil || leader.MemberCount() != 3 || leader.QuorumSize() != 2 {
					return false
				}
				status := leader.Status()
				return status.Members[0].Name == "s3" && status.Members[2].Name == "s5" && status.ConfigurationIndex <= status.CommitIndex
			})
			watch()
			c.put("end")
			c.converge()
		})
	}
}

// Row 77: c is a voter, by an entry that the leader and c have committed and b has
// never seen. Without the leader, b and c elect.
func TestFault077_MembersThatAreBehindElect(t *testing.T) {
	inRunningCluster(t, 2, ClusterOptions{}, func(c *clusterTest) {
		leader, behind := c.leader(), c.Server(c.followers()[0])
		late := c.Add()
		require.NoError(t, c.Start(late))
		votes := func(records []byte) bool {
			for len(records) > 0 {
				record, rest, err := wal.NextRecord(records)
				if err != nil {
					return false
				}
				if record.Kind() == kindConfiguration {
					if configuration, err := decodeConfiguration(record.Data(), record.Index()); err == nil && configuration.votes(late) {
						return true
					}
				}
				records = rest
			}
			return false
		}
		c.Network().Intercept(func(m MemoryMessage) bool {
			req, ok := m.Message.(*AppendEntriesRequest)
			return !ok || m.To != behind.Name() || !votes(req.records)
		})
		require.NoError(t, leader.AddPeer(late, c.ConnectionString(late)))
		c.within(5*testElection, "the vote to be committed", func() bool {
			status := leader.Status()
			return leader.QuorumSize() == 2 && len(status.Members) == 3 && status.Members[2].Voter && status.ConfigurationIndex <= status.CommitIndex
		})
		require.False(t, behind.Status().Members[2].Voter)
		c.Crash(leader.Name())
		c.Network().Intercept(nil)
		c.within(10*testElection, "the two to elect", func() bool { return c.Leader() != nil })
		require.Equal(t, late, c.leader().Name())
		c.put("x")
		c.converge()
	})
}

// Row 83: members are cut off, removed and killed in quick succession; nothing
// that was acknowledged is lost.
func TestFault083_ChangesCutsAndKills(t *testing.T) {
	for seed := range max(5, scale(15)) {
		inRunningCluster(t, 5, ClusterOptions{Seed: seed, SyncDelay: 100 * time.Microsecond}, func(c *clusterTest) {
			rng := rand.New(rand.NewPCG(seed, 83))
			member := map[string]bool{"s1": true, "s2": true, "s3": true, "s4": true, "s5": true}
			acknowledged := []string{}
			for round := range 6 {
				for i := range 5 {
					value := fmt.Sprint(round, "-", i)
					if _, err := c.Do(c.ctx, &testCommand{value}); err == nil {
						acknowledged = append(acknowledged, value)
					}
				}
				names := c.Names()
				c.Isolate(names[rng.IntN(len(names))])
				victim := names[rng.IntN(len(names))]
				if server := c.Leader(); server != nil {
					change := c.async(server, &DefaultLeaveCommand{Name: victim})
					c.pass(time.Duration(rng.Int64N(int64(testElection / 20))))
					for range 1 + rng.IntN(3) {
						c.Crash(names[rng.IntN(len(names))])
					}
					select {
					case <-change:
					case <-time.After(10 * testElection):
					}
				}
				c.Heal()
				require.NoError(t, c.StartAll())
				leader, err := c.WaitForLeader(c.ctx)
				require.NoError(t, err)
				for name := range member {
					if leader.Peers()[name] == nil && name != leader.Name() {
						require.NoError(t, c.Join(c.ctx, name))
					}
				}
				c.converge()
			}
			values := c.journal(c.leader().Name()).values()
			for _, value := range acknowledged {
				require.Contains(t, values, value)
			}
			require.Greater(t, len(acknowledged), 15)
		})
	}
}
