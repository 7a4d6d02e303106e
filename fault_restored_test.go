package raft

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// copyDisk returns a copy of a server's disk as a loss of power would leave it.
func (c *clusterTest) copyDisk(name string) *vfs.Mem {
	return c.node(name).disk.Load().CrashClone(vfs.Nothing)
}

// putBack ends a server and starts it from a copy of its disk.
func (c *clusterTest) putBack(name string, old *vfs.Mem) {
	c.t.Helper()
	c.Crash(name)
	c.node(name).disk.Store(old.CrashClone(vfs.Everything))
	require.NoError(c.t, c.Start(name))
}

// member is the one of that name as the leader sees it.
func (c *clusterTest) member(name string) member {
	c.t.Helper()
	m := c.leader().(*server).now().configuration.find(name)
	require.NotNil(c.t, m)
	return *m
}

// begunAnew waits until a server that was fenced votes again, from the same store
// and as another member, and has everything.
func (c *clusterTest) begunAnew(name string, before member) {
	c.t.Helper()
	c.within(20*testElection, name+" to vote anew", func() bool {
		if c.Leader() == nil {
			return false
		}
		m := c.member(name)
		return m.voter && m.incarnation > before.incarnation
	})
	require.Equal(c.t, c.Server(name).StoreID(), c.member(name).storeID)
	require.Equal(c.t, before.storeID, c.member(name).storeID)
	c.put("after")
	c.converge()
	require.NoError(c.t, c.Server(name).Err())
}

// Row 108: the disk of a follower is put back to what it was. The leader notices
// by what the follower had acknowledged, and takes it in anew.
func TestFault108_DiskPutBack(t *testing.T) {
	for form, options := range transports {
		for _, what := range []string{"log", "hard state", "before a snapshot", "twice"} {
			t.Run(form+", "+what, func(t *testing.T) {
				options, more := options, 20
				if what == "before a snapshot" {
					options.Options, more = []Option{WithSnapshotTrigger(50, 0)}, 600
				}
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					c.puts("a", 1, 5)
					c.converge()
					first := c.leader().Name()
					copies := make(map[string]*vfs.Mem)
					for _, name := range c.Names() {
						copies[name] = c.copyDisk(name)
					}
					if what == "hard state" {
						c.deposed()
					}
					leader, name := c.leader(), c.followers()[0]
					if name == first {
						name = c.followers()[1]
					}
					for round := range 2 {
						c.puts(fmt.Sprint("b", round, "-"), 1, more)
						c.converge()
						before := c.member(name)
						c.putBack(name, copies[name])
						require.Equal(t, what == "hard state", c.Server(name).Term() < leader.Term())
						c.begunAnew(name, before)
						require.Equal(t, leader, c.leader(), "nobody was disturbed")
						if what != "twice" {
							break
						}
						copies[name] = c.copyDisk(name)
					}
				})
			})
		}
	}
}

// deposed replaces the leader, and has it follow.
func (c *clusterTest) deposed() {
	c.t.Helper()
	old := c.leader().Name()
	c.Crash(old)
	c.within(40*testElection, "another leader", func() bool { return c.Leader() != nil && c.leader().Name() != old })
	require.NoError(c.t, c.Start(old))
	c.converge()
}

// A server is put back to what it was before it joined: to a store that belongs to
// no cluster. It is told from one that was wiped by its store, and needs no join.
func TestFault108_PutBackToBeforeItJoined(t *testing.T) {
	for form, options := range transports {
		t.Run(form, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				name := c.Add()
				require.NoError(t, c.Start(name))
				old := c.copyDisk(name)
				require.NoError(t, c.Join(c.ctx, name))
				c.puts("a", 1, 20)
				c.converge()
				before := c.member(name)
				c.putBack(name, old)
				require.True(t, c.Server(name).IsLogEmpty())
				c.begunAnew(name, before)
			})
		})
	}
}

// The leader itself is put back. It follows from then on, and nobody knows what it
// has lost: it gets the entries again, and goes on as the member that it was.
func TestFault108_LeaderPutBack(t *testing.T) {
	for form, options := range transports {
		t.Run(form, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				c.puts("a", 1, 5)
				c.converge()
				name := c.leader().Name()
				old := c.copyDisk(name)
				c.puts("b", 1, 20)
				c.converge()
				c.Crash(name)
				c.within(40*testElection, "another leader", func() bool { return c.Leader() != nil && c.leader().Name() != name })
				before := c.member(name)
				c.putBack(name, old)
				c.put("after")
				c.converge()
				require.Equal(t, before, c.member(name))

				// What it acknowledges from now on is held against it.
				c.puts("c", 1, 20)
				c.converge()
				c.putBack(name, old)
				c.begunAnew(name, before)
			})
		})
	}
}

// While it is needed for a majority, a server that was put back is none: the leader
// steps down. Once the others are there it begins anew.
func TestFault108_CountsForNothing(t *testing.T) {
	for form, options := range transports {
		t.Run(form, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				leader, name, other := c.leader(), c.followers()[0], c.followers()[1]
				old := c.copyDisk(name)
				c.puts("a", 1, 20)
				c.converge()
				before := c.member(name)
				term, index := leader.Term(), leader.CommitIndex()
				c.Isolate(other)
				c.Network().Block(name, other)
				c.putBack(name, old)
				done := c.async(leader, &testCommand{"b"})
				for leader.State() == Leader && leader.Term() == term {
					require.Equal(t, index, leader.CommitIndex(), "counted in spite of what it has lost")
					c.pass(time.Millisecond)
				}
				<-done
				c.Heal()
				c.put("c")
				c.converge()
				require.LessOrEqual(t, before.incarnation, c.member(name).incarnation)
			})
		})
	}
}

// Once the fence is committed, the old state elects nobody: of three servers the
// leader is cut off, and with it goes the only one whose vote counts.
func TestFault108_FencedServerElectsNobody(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, name, other := c.leader(), c.followers()[0], c.followers()[1]
		old := c.copyDisk(name)
		c.puts("a", 1, 20)
		c.converge()
		before := c.member(name)
		c.putBack(name, old)
		c.within(10*testElection, "it to be fenced", func() bool {
			m := leader.(*server).now().configuration.find(name)
			return !m.voter && m.incarnation > before.incarnation && m.incarnation <= leader.CommitIndex()
		})
		c.Isolate(leader.Name())
		for range 40 {
			c.pass(testElection)
			for _, server := range []string{name, other} {
				require.NotEqual(t, Leader, c.Server(server).State(), server)
			}
		}
		c.Heal()
		c.begunAnew(name, before)
	})
}

// unfenced fails if any member has begun anew.
func (c *clusterTest) unfenced() {
	c.t.Helper()
	for _, name := range c.Names() {
		require.Zero(c.t, c.member(name).incarnation, "%s was fenced", name)
	}
}

// Servers lose what was not durable, and nothing else: nobody acknowledged that,
// so nobody is fenced, whatever the network does to the answers.
func TestFault108_CrashesFenceNobody(t *testing.T) {
	for form, options := range transports {
		t.Run(form, func(t *testing.T) {
			options.SyncDelay = 500 * time.Microsecond
			for seed := range scale(4) {
				options.Seed = seed
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					c.Network().SetDuplicates(0.3)
					c.Delay(0, testElection/8)
					rng := rand.New(rand.NewPCG(seed, 108))
					for round := range 10 {
						for i := range 20 {
							if leader := c.Leader(); leader != nil {
								c.async(leader, &testCommand{fmt.Sprint(round, "-", i)})
							}
							c.pass(time.Duration(rng.Int64N(int64(4 * time.Millisecond))))
						}
						name := c.Names()[rng.IntN(3)]
						c.Crash(name)
						c.pass(time.Duration(rng.Int64N(int64(2 * testElection))))
						require.NoError(t, c.Start(name))
					}
					c.put("end")
					c.converge()
					c.unfenced()
				})
			}
		})
	}
}

// A follower that a new leader has cut back, as Raft has it, keeps its promises.
func TestFault108_NewLeaderCutsTheLog(t *testing.T) {
	for form, options := range transports {
		t.Run(form, func(t *testing.T) {
			inRunningCluster(t, 5, options, func(c *clusterTest) {
				old, with := c.leader(), c.followers()[0]
				c.Partition([]string{old.Name(), with})
				for i := range 20 {
					c.async(old, &testCommand{fmt.Sprint("lost", i)})
				}
				c.within(testElection, "them on two servers", func() bool {
					status := c.Server(with).Status()
					return status.LastIndex > 20 && status.DurableIndex == status.LastIndex
				})
				end := c.Server(with).Status().LastIndex
				c.within(20*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader().Name() != old.Name() })
				c.put("b")
				c.Heal()
				c.put("c")
				c.converge()
				require.Less(t, c.leader().Status().LastIndex, end)
				c.unfenced()
			})
		})
	}
}

// An answer that left before the acknowledgement, and arrives behind it, shows
// nothing: here every refusal takes a detour.
func TestFault108_LateAnswersFenceNobody(t *testing.T) {
	for _, form := range []string{"calls", "bare"} {
		t.Run(form, func(t *testing.T) {
			inRunningCluster(t, 3, transports[form], func(c *clusterTest) {
				name := c.followers()[0]
				late := 0
				for range 5 {
					c.Isolate(name)
					c.puts("a", 1, 10)
					c.Heal()
					c.Network().Intercept(func(m MemoryMessage) bool {
						if r, ok := m.Message.(*AppendEntriesResponse); ok && m.From == name && !r.success {
							late++
						}
						return true
					})
					c.Network().SetDuplicates(0.5)
					c.Delay(0, testElection/3)
					c.pass(4 * testElection)
				}
				c.Delay(0, time.Millisecond)
				c.put("end")
				c.converge()
				require.NotZero(t, late)
				c.unfenced()
			})
		})
	}
}
