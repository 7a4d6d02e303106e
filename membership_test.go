package raft

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// leave has the leader remove a server.
func (c *clusterTest) leave(name string) {
	c.t.Helper()
	value, err := c.Do(c.ctx, &DefaultLeaveCommand{Name: name})
	require.NoError(c.t, err)
	require.Equal(c.t, []byte("leave"), value)
}

func TestLeave(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				leader, gone, stays := c.leader(), c.followers()[0], c.followers()[1]
				c.puts("x", 1, 3)
				c.leave(gone)
				require.Equal(t, 2, leader.MemberCount())
				require.Equal(t, 2, leader.QuorumSize())
				require.NotContains(t, leader.Peers(), gone)
				c.within(testElection, "the removed server to know it", func() bool { return c.Server(gone).Err() != nil })
				require.Equal(t, ErrRemoved, c.Server(gone).Err())
				require.Equal(t, ErrRemoved.Error(), c.Server(gone).Status().Error)
				c.puts("y", 1, 3)
				c.converge()

				// It neither stands, nor is it heard of.
				term := leader.Term()
				c.pass(40 * testElection)
				require.Equal(t, Follower, c.Server(gone).State())
				require.Equal(t, term, leader.Term())
				require.Equal(t, leader, c.Leader())
				require.NoError(t, leader.Err())
				require.NoError(t, c.Server(stays).Err())

				// Nor after a restart, which it outlives as one that was removed.
				require.NoError(t, c.Restart(gone))
				c.within(20*testElection, "it to know it again", func() bool { return c.Server(gone).Err() == ErrRemoved })
				c.pass(20 * testElection)
				require.Equal(t, term, leader.Term())
				require.Equal(t, []string{"x1", "x2", "x3"}, c.journal(gone).values())
			})
		})
	}
}

func TestLeaveOfAStranger(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, follower := c.leader(), c.Server(c.followers()[0])
		last := leader.Status().LastIndex
		value, err := leader.Do(&DefaultLeaveCommand{Name: "x"})
		require.Equal(t, []byte("leave"), value)
		require.EqualError(t, err, "raft: Peer not found: x")
		require.ErrorIs(t, err, ErrPeerNotFound)
		_, err = leader.DoContext(c.ctx, &DefaultLeaveCommand{Name: "x"})
		requireNotApplied(t, err, ErrPeerNotFound)
		require.EqualError(t, leader.RemovePeer("x"), "raft: Peer not found: x")
		require.Equal(t, last, leader.Status().LastIndex)

		require.NoError(t, follower.RemovePeer("x"), "it is none")
		require.Equal(t, NotLeaderError, follower.RemovePeer("s1"))
		value, err = follower.Do(&DefaultLeaveCommand{Name: "s1"})
		require.Nil(t, value)
		require.Equal(t, NotLeaderError, err)
	})
}

func TestLeaveNeedsTheOthers(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, dead, alive := c.leader(), c.followers()[0], c.followers()[1]
		c.Stop(dead)
		c.pass(3 * testElection)
		for _, name := range []string{alive, leader.Name()} {
			_, err := leader.DoContext(c.ctx, &DefaultLeaveCommand{Name: name})
			requireNotApplied(t, err, ErrNoQuorum)
			require.Equal(t, ErrNoQuorum, leader.RemovePeer(name))
		}
		require.NoError(t, leader.RemovePeer(dead))
		require.NoError(t, leader.RemovePeer(alive))
		require.Equal(t, ErrNoQuorum, leader.RemovePeer(leader.Name()), "the last voter")
		c.put("x")
	})
	// A new leader that has not heard of everybody waits before it judges.
	inRunningCluster(t, 5, ClusterOptions{}, func(c *clusterTest) {
		for range 10 {
			old := c.leader().Name()
			c.Stop(old)
			leader, err := c.WaitForLeader(c.ctx)
			require.NoError(t, err)
			name := c.followers()[0]
			require.NoError(t, leader.RemovePeer(name))
			require.NoError(t, c.Restart(old))
			require.NoError(t, c.Join(c.ctx, name))
		}
	})
}

func TestManyChangesAtOnce(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		var waiting []<-chan outcome
		for range 5 {
			name := c.Add()
			require.NoError(t, c.Start(name))
			waiting = append(waiting, c.async(c.leader(), &DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)}))
		}
		for i, done := range waiting {
			got := <-done
			require.NoError(t, got.err, fmt.Sprint(i))
			require.Equal(t, []byte("join"), got.value)
		}
		require.Equal(t, 6, c.leader().MemberCount())
		c.within(20*testElection, "all to vote", func() bool { return c.leader().QuorumSize() == 4 })
		c.put("x")
		c.converge()
	})
}

// memberEvents records what servers tell of their members.
type memberEvents struct {
	mu  sync.Mutex
	all map[string][]string
}

func (e *memberEvents) configure(name string, server Server) {
	for _, kind := range []string{AddPeerEventType, RemovePeerEventType} {
		server.AddEventListener(kind, func(event Event) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.all[name] = append(e.all[name], event.Type()+" "+event.Value().(string))
		})
	}
}

// of returns what the server has told since it was asked last.
func (e *memberEvents) of(name string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer delete(e.all, name)
	return e.all[name]
}

func TestMemberEvents(t *testing.T) {
	events := &memberEvents{all: make(map[string][]string)}
	inRunningCluster(t, 3, ClusterOptions{Configure: events.configure}, func(c *clusterTest) {
		leader, follower := c.leader().Name(), c.followers()[0]
		for _, name := range c.Names() {
			var others []string
			for _, other := range c.Names() {
				if other != name {
					others = append(others, "addPeer "+other)
				}
			}
			require.Equal(t, others, events.of(name), "of itself nobody tells")
		}
		late := c.Add()
		require.NoError(t, c.Start(late))
		require.NoError(t, c.Join(c.ctx, late))
		c.converge()
		require.Equal(t, []string{"addPeer s4"}, events.of(leader), "once: not again when it votes")
		require.Equal(t, []string{"addPeer s4"}, events.of(follower))
		told := events.of(late)
		slices.Sort(told)
		require.Equal(t, []string{"addPeer s1", "addPeer s2", "addPeer s3"}, told)

		require.NoError(t, c.Server(leader).AddPeer(follower, "elsewhere"))
		c.leave(late)
		c.within(testElection, "it to know", func() bool { return c.Server(late).Err() != nil })
		c.put("x")
		c.converge()
		require.Equal(t, []string{"removePeer s4"}, events.of(leader), "an address is no event")
		require.Equal(t, []string{"removePeer s4"}, events.of(follower))
		require.Equal(t, []string{"removePeer s4"}, events.of(late), "its own removal, when it is certain")

		require.NoError(t, c.Join(c.ctx, late))
		c.converge()
		require.Empty(t, events.of(late))
		require.NoError(t, c.Server(late).Err())
		events.of(leader)
		c.leave(leader)
		c.put("x")
		c.converge()
		require.Equal(t, []string{"removePeer " + leader}, events.of(leader))
		require.Equal(t, []string{"removePeer " + leader}, events.of(late))
	})
}

// A change that is taken back is told again, the other way round.
func TestMemberEventsOfAChangeThatNeverCommits(t *testing.T) {
	events := &memberEvents{all: make(map[string][]string)}
	inRunningCluster(t, 3, ClusterOptions{Configure: events.configure}, func(c *clusterTest) {
		old, gone := c.leader(), c.followers()[0]
		events.of(old.Name())
		events.of(gone)
		c.Isolate(old.Name())
		requireUnknown(t, (<-c.async(old, &DefaultLeaveCommand{Name: gone})).err)
		require.Equal(t, []string{"removePeer " + gone}, events.of(old.Name()))
		c.within(10*testElection, "another leader", func() bool { return c.Leader() != nil && c.leader() != old })
		c.Heal()
		c.put("x")
		c.converge()
		require.Equal(t, []string{"addPeer " + gone}, events.of(old.Name()))
		require.Empty(t, events.of(gone))
	})
}

// Before a cluster begins, AddPeer and RemovePeer make the list that it begins
// with.
func TestPeersBeforeTheBeginning(t *testing.T) {
	for _, started := range []bool{false, true} {
		inCluster(t, 4, ClusterOptions{}, func(c *clusterTest) {
			servers := c.Names()[:3]
			for _, name := range servers {
				if started {
					require.NoError(t, c.Start(name))
				}
			}
			list := func(name string) {
				s := c.Server(name)
				for _, peer := range c.Names() {
					require.NoError(t, s.AddPeer(peer, c.ConnectionString(peer)))
				}
				require.Equal(t, 4, s.MemberCount())
				require.EqualError(t, s.RemovePeer("x"), "raft: Peer not found: x")
				require.NoError(t, s.RemovePeer("s4"))
				require.Equal(t, 3, s.MemberCount())
				require.NotContains(t, s.Peers(), "s4")
				require.EqualError(t, s.RemovePeer("s4"), "raft: Peer not found: s4")
			}
			if !started {
				require.NoError(t, c.StartAll())
				c.Stop("s4")
			}
			for _, name := range servers {
				list(name)
			}
			require.NoError(t, c.Restart("s1"))
			require.Equal(t, 3, c.Server("s1").MemberCount(), "the list is on disk")
			require.NoError(t, c.found(c.ctx, "s1"))
			c.put("x")
			c.converge()
			require.Equal(t, 3, c.leader().MemberCount())
			require.Equal(t, 2, c.leader().QuorumSize())
		})
	}
	// On a server that is not started it is the same.
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		life, err := c.create(c.node("s1"))
		require.NoError(t, err)
		defer life.transport.Close()
		require.NoError(t, life.server.AddPeer("s2", "-"))
		require.EqualError(t, life.server.RemovePeer("s3"), "raft: Peer not found: s3")
		require.NoError(t, life.server.RemovePeer("s2"))
		require.NoError(t, life.server.RemovePeer("s1"))
		require.Equal(t, 1, life.server.MemberCount(), "itself, whatever the list says")
		require.Empty(t, life.server.Peers())
		life.server.Stop()
	})
}

// goraft's programs found a cluster, and take members in, by commands of their
// own that call AddPeer.
func TestOwnCommandsOfMembership(t *testing.T) {
	inCluster(t, 2, ClusterOptions{}, func(c *clusterTest) {
		for _, name := range c.Names() {
			require.NoError(t, c.registry(name).Register(&memberCommand{}))
			require.NoError(t, c.Start(name))
		}
		s1 := c.Server("s1")
		value, err := s1.Do(&memberCommand{Name: "s1", Address: c.ConnectionString("s1")})
		require.NoError(t, err)
		require.Equal(t, "joined s1", value)
		require.Equal(t, 1, s1.MemberCount())
		value, err = s1.Do(&memberCommand{Name: "s2", Address: c.ConnectionString("s2")})
		require.NoError(t, err)
		require.Equal(t, "joined s2", value)
		c.within(20*testElection, "the second to vote", func() bool { return s1.QuorumSize() == 2 })
		_, err = s1.Do(&memberCommand{Name: "s9", Leave: true})
		require.EqualError(t, err, "raft: Peer not found: s9", "as Apply returned it")
		value, err = s1.Do(&memberCommand{Name: "s1", Leave: true})
		require.NoError(t, err)
		require.Equal(t, "left s1", value)
		c.within(3*testElection, "the other to lead", func() bool { return c.Leader() == c.Server("s2") })
		require.Equal(t, ErrRemoved, s1.Err())
		require.Equal(t, 1, c.leader().MemberCount())
	})
}

// memberCommand joins or removes as goraft's programs do.
type memberCommand struct {
	Name, Address string
	Leave         bool
}

// CommandName is Command's.
func (c *memberCommand) CommandName() string { return "test:member" }

// NodeName makes it a JoinCommand.
func (c *memberCommand) NodeName() string { return c.Name }

// Apply is goraft's older form.
func (c *memberCommand) Apply(server Server) (interface{}, error) {
	if c.Leave {
		return "left " + c.Name, server.RemovePeer(c.Name)
	}
	return "joined " + c.Name, server.AddPeer(c.Name, c.Address)
}
