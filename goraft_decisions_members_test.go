package raft

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// ownJoin is a join command of a program: an ordinary entry, whose Apply does what
// the program wants.
type ownJoin struct {
	Name string
	As   string // the command's name
}

// CommandName is Command's.
func (c *ownJoin) CommandName() string { return c.As }

// NodeName makes it a JoinCommand, and a LeaveCommand.
func (c *ownJoin) NodeName() string { return c.Name }

// Apply is of the form that goraft's first users had.
func (c *ownJoin) Apply(server Server) (interface{}, error) { return "applied " + c.Name, nil }

// know registers a program's command under names of its own.
func (c *clusterTest) know(name string, as ...string) {
	for _, n := range as {
		require.NoError(c.t, c.registry(name).Register(&ownJoin{As: n}))
	}
}

// The first term is 1, and a server that joins itself is elected, by its own vote,
// which is durable before it leads.
func TestDecision11_NobodyLeadsWithoutAVote(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		require.NoError(t, c.Start("s1"))
		s := c.Server("s1")
		c.pass(20 * testElection)
		require.Equal(t, Follower, s.State(), "a server with an empty log never stands")
		require.Zero(t, s.Term())
		require.True(t, s.IsLogEmpty())
		require.Equal(t, 1, s.MemberCount())

		release := c.stallDisk("s1")
		joined := c.async(s, &DefaultJoinCommand{Name: "s1"})
		c.pass(20 * testElection)
		require.NotEqual(t, Leader, s.State())
		require.Zero(t, s.CommitIndex())
		release()
		got := <-joined
		require.NoError(t, got.err)
		require.Equal(t, []byte("join"), got.value)
		require.Equal(t, Leader, s.State())
		require.Equal(t, uint64(1), s.LogEntries()[0].Term())
		require.Equal(t, "s1", s.VotedFor())
		require.Equal(t, "s1", s.Leader())
	})
}

// The same list on every server, and any of them joins itself: one cluster, whose
// decisions need a majority of the list.
func TestDecision11_StaticLists(t *testing.T) {
	for selfJoins := 1; selfJoins <= 3; selfJoins++ {
		inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			require.NoError(t, c.StartAll())
			for _, server := range c.Servers() {
				for _, name := range c.Names() {
					require.NoError(t, server.AddPeer(name, c.ConnectionString(name)))
				}
			}
			c.pass(10 * testElection)
			require.Nil(t, c.Leader(), "nobody has begun")
			var joining sync.WaitGroup
			for _, name := range c.Names()[:selfJoins] {
				joining.Go(func() {
					value, err := c.Server(name).Do(&DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)})
					if err != nil || string(value.([]byte)) != "join" {
						c.t.Errorf("%s: %v, %v", name, value, err)
					}
				})
			}
			joining.Wait()
			c.put("x")
			c.converge()
			for _, server := range c.Servers() {
				require.Equal(t, 3, server.MemberCount())
				require.Equal(t, 2, server.QuorumSize())
			}
		})
	}
}

// A self-join with a list does not make a leader of one server of it.
func TestDecision11_RealQuorum(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		require.NoError(t, c.Start("s1"))
		s := c.Server("s1")
		for _, name := range []string{"s2", "s3"} {
			require.NoError(t, s.AddPeer(name, c.ConnectionString(name)))
		}
		joining := c.async(s, &DefaultJoinCommand{Name: "s1", ConnectionString: c.ConnectionString("s1")})
		c.pass(50 * testElection)
		require.NotEqual(t, Leader, s.State())
		require.NoError(t, c.Start("s2"))
		for _, name := range c.Names() {
			require.NoError(t, c.Server("s2").AddPeer(name, c.ConnectionString(name)))
		}
		require.NoError(t, (<-joining).err)
		c.put("x")
	})
}

// A join returns when the cluster has taken in the member, whether that is up or
// not: programs post their join before they listen. It counts in MemberCount and
// Peers at once, and in QuorumSize when it votes.
func TestDecision12_JoinDoesNotWaitForTheJoiner(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		late := c.Add()
		leader := c.leader()
		value, err := leader.Do(&DefaultJoinCommand{Name: late, ConnectionString: c.ConnectionString(late)})
		require.NoError(t, err)
		require.Equal(t, []byte("join"), value)
		require.Equal(t, 2, leader.MemberCount())
		require.Equal(t, 1, leader.QuorumSize())
		require.Equal(t, c.ConnectionString(late), leader.Peers()[late].ConnectionString)
		c.put("without it")
		require.NoError(t, c.Start(late))
		c.within(10*testElection, "a vote for the learner", func() bool { return leader.QuorumSize() == 2 })
		value, err = leader.Do(&DefaultJoinCommand{Name: late, ConnectionString: c.ConnectionString(late)})
		require.NoError(t, err, "a join that changes nothing")
		require.Equal(t, []byte("join"), value)
		c.converge()
	})
}

// What begins a cluster on an empty server that belongs to none: a command that
// names the server and does not say leave or remove. It is then applied like any
// other.
func TestDecision12_WhatBeginsACluster(t *testing.T) {
	begin := func(as, node string, begins bool) {
		inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
			c.know("s1", as)
			require.NoError(t, c.Start("s1"))
			s := c.Server("s1")
			value, err := s.Do(&ownJoin{Name: node, As: as})
			if !begins {
				require.Equal(t, NotLeaderError, err, as)
				require.True(t, s.IsLogEmpty(), as)
				c.pass(10 * testElection)
				require.Equal(t, Follower, s.State(), as)
				return
			}
			require.NoError(t, err, as)
			require.Equal(t, "applied "+node, value)
			require.Equal(t, Leader, s.State())
			require.Equal(t, as, s.LastCommandName())
		})
	}
	begin("etcd:join", "s1", true)
	begin("anything", "s1", true)
	begin("etcd:join", "s2", false)
	begin("ForceLeaveCommand", "s1", false)
	begin("etcd:remove", "s1", false)
	begin("REMOVE", "s1", false)

	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		require.NoError(t, c.Start("s1"))
		_, err := c.Server("s1").Do(&DefaultLeaveCommand{Name: "s1"})
		require.Equal(t, NotLeaderError, err)
		require.True(t, c.Server("s1").IsLogEmpty())
	})
}

// A server's own address is that of the join command, else that of NewServer; a
// join or AddPeer of a known name with another one changes it; an empty one is
// legal.
func TestDecision12_AddressesChange(t *testing.T) {
	own := func(s Server) string { return s.Status().Members[0].ConnectionString }
	for given, want := range map[string]string{"": "memory://s1", "other://s1": "other://s1"} {
		inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
			require.NoError(t, c.Start("s1"))
			_, err := c.Server("s1").Do(&DefaultJoinCommand{Name: "s1", ConnectionString: given})
			require.NoError(t, err)
			require.Equal(t, want, own(c.Server("s1")))
		})
	}
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, name := c.leader(), c.followers()[0]
		_, err := leader.Do(&DefaultJoinCommand{Name: name, ConnectionString: "other://1"})
		require.NoError(t, err)
		require.Equal(t, "other://1", leader.Peers()[name].ConnectionString)
		for _, address := range []string{"other://2", "", c.ConnectionString(name)} {
			require.NoError(t, leader.AddPeer(name, address))
			require.Equal(t, address, leader.Peers()[name].ConnectionString)
			c.put("x")
			c.converge()
			for other, server := range c.Servers() {
				if other != name {
					require.Equal(t, address, server.Peers()[name].ConnectionString, other)
				}
			}
		}
		require.Equal(t, 3, leader.MemberCount())
	})
}

// AddPeer outside the log: it builds the initial configuration, or asks the leader,
// or says who would have to be asked.
func TestDecision12_AddPeerOutsideTheLog(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.options.Configure = func(name string, server Server) { // before Init, too
			require.NoError(t, server.AddPeer("s1", c.ConnectionString("s1")))
			require.NoError(t, server.AddPeer("s2", c.ConnectionString("s2")))
			require.NoError(t, server.AddPeer("s3", c.ConnectionString("s3")))
			require.Len(t, server.Peers(), 2)
		}
		require.NoError(t, c.StartAll())
		c.options.Configure = nil
		require.NoError(t, c.found(c.ctx, "s1"))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader, follower := c.leader(), c.Server(c.followers()[0])
		last := leader.Status().LastIndex
		for _, name := range c.Names() { // SeaweedFS does so at every start
			require.NoError(t, leader.AddPeer(name, c.ConnectionString(name)))
			require.NoError(t, follower.AddPeer(name, c.ConnectionString(name)))
		}
		require.Equal(t, last, leader.Status().LastIndex, "nothing to change")
		require.Equal(t, NotLeaderError, follower.AddPeer("s4", "memory://s4"))
		require.Equal(t, NotLeaderError, follower.AddPeer("s1", "memory://elsewhere"))
		require.NoError(t, leader.AddPeer("s4", "memory://s4"))
		require.Equal(t, 4, leader.MemberCount())
		require.Error(t, leader.AddPeer("", "memory://s5"))
		c.converge()
	})
}

// Programs with a static list tell it at every start, and end if that fails: it must
// not, also where all servers were killed before they knew their last configuration
// to be committed.
func TestDecision12_AddPeerAtEveryStart(t *testing.T) {
	for _, choose := range []vfs.Chooser{vfs.Everything, vfs.Nothing} {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			for _, name := range c.Names() {
				c.crash(c.node(name), choose)
			}
			uncommitted := 0
			tell := func(server Server) {
				for _, peer := range c.Names() {
					require.NoError(t, server.AddPeer(peer, c.ConnectionString(peer)))
				}
				require.NoError(t, server.RemovePeer("stale"))
				require.Equal(t, NotLeaderError, server.AddPeer("s1", "memory://elsewhere"))
				require.Equal(t, NotLeaderError, server.RemovePeer("s1"))
			}
			c.options.Configure = func(_ string, server Server) {
				require.NoError(t, server.Init())
				if status := server.Status(); status.ConfigurationIndex > status.CommitIndex {
					uncommitted++
				}
				tell(server)
			}
			for _, name := range c.Names() {
				require.NoError(t, c.Start(name))
				tell(c.Server(name))
			}
			require.NotZero(t, uncommitted)
			c.put("x")
			c.converge()
		})
	}
}

// Commands of the two exact types become configuration entries: their own Apply is
// not called, on any server.
func TestDecision12_JoinIsAConfigurationEntry(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		heard := hears(leader, CommitEventType, AddPeerEventType)
		_, err := leader.Do(&DefaultJoinCommand{Name: "s9", ConnectionString: ""})
		require.NoError(t, err)
		index := leader.Status().ConfigurationIndex
		require.Equal(t, "raft:join", leader.LastCommandName())
		synctest.Wait()
		require.Equal(t, []string{"addPeer s9<-<nil>", "commit entry 2 raft:join<-<nil>"}, heard.take())
		require.Equal(t, uint64(2), index)
	})
}

// A leave returns when the removal is committed, of a stranger with goraft's error.
// Who is removed is told by an event and by Err, goes on answering and never
// stands; a leader that removes itself hands over.
func TestDecision12_Leaves(t *testing.T) {
	inCluster(t, 4, ClusterOptions{}, func(c *clusterTest) {
		heard := make(map[string]*heardEvents)
		c.options.Configure = func(name string, server Server) { heard[name] = hears(server, RemovePeerEventType) }
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader, gone := c.leader(), c.followers()[0]
		value, err := leader.Do(&DefaultLeaveCommand{Name: "x"})
		require.Equal(t, []byte("leave"), value)
		require.EqualError(t, err, "raft: Peer not found: x")

		value, err = leader.Do(&DefaultLeaveCommand{Name: gone})
		require.NoError(t, err)
		require.Equal(t, []byte("leave"), value)
		require.Equal(t, 3, leader.MemberCount())
		c.within(10*testElection, "it to know", func() bool { return c.Server(gone).Err() == ErrRemoved })
		c.pass(20 * testElection)
		for name := range c.Servers() {
			require.Equal(t, []string{"removePeer " + gone + "<-<nil>"}, heard[name].take(), name)
		}
		require.Equal(t, Follower, c.Server(gone).State())
		require.NotNil(t, c.Server(gone).RequestVote(&RequestVoteRequest{CandidateName: leader.Name()}))
		require.Equal(t, leader, c.Leader())

		require.NoError(t, leader.RemovePeer(leader.Name()), "its own removal")
		c.within(3*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != leader })
		require.Equal(t, ErrRemoved, leader.Err())
		c.put("x")
		require.Equal(t, 2, c.leader().MemberCount())
	})
}

// memberWord is what an Apply was told by AddPeer or RemovePeer.
type memberWord struct {
	server, call string
	err          string
}

// AddPeer and RemovePeer inside Apply never wait, say the same on every server,
// and come about in the order of the log, whoever leads.
func TestDecision12_ChangesFromApply(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		var mu sync.Mutex
		words := make(map[string][]memberWord) // by call
		c.during = func(ctx Context, value string) {
			s := ctx.Server()
			say := func(call string, err error) {
				mu.Lock()
				defer mu.Unlock()
				word := memberWord{server: s.Name(), call: call}
				if err != nil {
					word.err = err.Error()
				}
				words[call] = append(words[call], word)
			}
			switch value {
			case "add":
				say("add", s.AddPeer("s4", "memory://s4"))
				say("remove a stranger", s.RemovePeer("s5"))
				say("add nobody", s.AddPeer("", ""))
			case "move":
				say("move away", s.RemovePeer("s4"))
				say("move back", s.AddPeer("s4", ""))
			case "remove":
				say("remove", s.RemovePeer("s4"))
				say("remove again", s.RemovePeer("s4"))
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		everywhere := func(what string, condition func(peers map[string]*Peer) bool) {
			c.within(10*testElection, what, func() bool {
				for _, server := range c.Servers() {
					if !condition(server.Peers()) {
						return false
					}
				}
				return true
			})
		}
		c.put("add")
		everywhere("s4 to be a member", func(peers map[string]*Peer) bool { return peers["s4"] != nil })
		require.Equal(t, 2, c.leader().QuorumSize(), "it is a learner")
		c.put("move")
		c.Crash(c.leader().Name()) // another leader carries out what waits
		everywhere("s4 to have moved", func(peers map[string]*Peer) bool { return peers["s4"] != nil && peers["s4"].ConnectionString == "" })
		require.NoError(t, c.StartAll())
		c.put("remove")
		everywhere("s4 to be gone", func(peers map[string]*Peer) bool { return peers["s4"] == nil })
		c.converge()

		mu.Lock()
		defer mu.Unlock()
		for call, want := range map[string]string{
			"add": "", "remove a stranger": "raft: Peer not found: s5", "move away": "", "move back": "", "remove": "", "remove again": "",
			"add nobody": (&OptionError{"name", "of a member must not be blank or longer than 1 KiB"}).Error(),
		} {
			require.GreaterOrEqual(t, len(words[call]), 3, call)
			for _, word := range words[call] {
				require.Equal(t, want, word.err, "%s on %s", call, word.server)
			}
		}
	})
}

// On a server that belongs to no cluster RemovePeer takes names off the initial
// list, and on a follower it says whether there is anything to do.
func TestDecision12_RemovePeerOutsideTheLog(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.options.Configure = func(name string, server Server) {
			for _, peer := range append(c.Names(), "stale") {
				require.NoError(t, server.AddPeer(peer, c.ConnectionString(peer)))
			}
			require.Len(t, server.Peers(), 3)
			require.NoError(t, server.RemovePeer("stale"))
			require.EqualError(t, server.RemovePeer("stale"), "raft: Peer not found: stale")
			require.Len(t, server.Peers(), 2)
		}
		require.NoError(t, c.StartAll())
		require.NoError(t, c.found(c.ctx, "s1"))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader, follower := c.leader(), c.Server(c.followers()[0])
		require.EqualError(t, leader.RemovePeer("stale"), "raft: Peer not found: stale")
		require.NoError(t, follower.RemovePeer("stale"), "it is none")
		require.Equal(t, NotLeaderError, follower.RemovePeer(follower.Name()))
		require.NoError(t, leader.RemovePeer(follower.Name()))
		require.Equal(t, 2, leader.MemberCount())
	})
}
