package raft

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// outcome is what became of a command whose caller did not wait.
type outcome struct {
	value interface{}
	err   error
	took  time.Duration
}

// async has a server carry out a command without waiting for it.
func (c *clusterTest) async(server Server, command Command) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		start := time.Now()
		value, err := server.DoContext(c.ctx, command)
		done <- outcome{value, err, time.Since(start)}
	}()
	return done
}

// requireUnknown checks that an error leaves a command's fate open.
func requireUnknown(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, ErrOutcomeUnknown)
	require.NotErrorIs(t, err, ErrNotApplied)
}

// requireNotApplied checks that an error says that a command is not applied.
func requireNotApplied(t *testing.T, err, cause error) {
	t.Helper()
	require.ErrorIs(t, err, ErrNotApplied)
	require.NotErrorIs(t, err, ErrOutcomeUnknown)
	require.ErrorIs(t, err, cause)
}

func TestFault013_OneWayLinkDeposesTheLeader(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				old := c.leader()
				for _, follower := range c.followers() {
					c.Network().Block(follower, old.Name())
				}
				blocked := c.async(old, &testCommand{"blocked"})
				c.within(2*testElection, "the old leader to step down", func() bool { return old.State() != Leader })
				c.within(3*testElection, "a new leader", func() bool { return c.Leader() != nil && c.leader() != old })
				c.put("new")
				got := <-blocked
				require.Error(t, got.err)
				if !errors.Is(got.err, ErrNotApplied) {
					requireUnknown(t, got.err)
				}
				require.LessOrEqual(t, got.took, 5*testElection)
				c.Heal()
				c.converge()
			})
		})
	}
}

func TestFault024_ServersStartedTogetherElect(t *testing.T) {
	rounds := map[uint64]int{}
	for seed := range uint64(5) {
		inRunningCluster(t, 5, ClusterOptions{Seed: seed}, func(c *clusterTest) {
			for range scale(10) {
				before := c.leader().Term()
				for _, name := range c.Names() {
					c.Stop(name)
				}
				require.NoError(t, c.StartAll()) // at one instant
				c.within(5*testElection, "a leader", func() bool { return c.Leader() != nil })
				rounds[c.leader().Term()-before]++
			}
			c.converge()
		})
	}
	t.Log("elections by terms taken:", rounds)
	for terms := range rounds {
		require.LessOrEqual(t, terms, uint64(3))
	}
}

func TestFault112_HungPeerDelaysNobody(t *testing.T) {
	options := transports["bare"]
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		leader, hung := c.leader(), c.followers()[0]
		c.Network().SetCallTimeout(0) // calls to it never return
		c.Network().Pause(hung)
		for i := range 20 {
			start := time.Now()
			c.put(fmt.Sprint("x", i))
			require.Less(t, time.Since(start), DefaultHeartbeatInterval)
		}
		c.pass(20 * testElection)
		require.Equal(t, Leader, leader.State())

		// A newer term is heeded at once.
		status := leader.Status()
		start := time.Now()
		resp := leader.AppendEntries(&AppendEntriesRequest{
			Term: status.Term + 1, LeaderName: c.followers()[1], PrevLogIndex: status.LastIndex, PrevLogTerm: status.LastTerm,
		})
		require.NotNil(t, resp)
		require.Equal(t, status.Term+1, resp.Term())
		require.NotEqual(t, Leader, leader.State())
		require.Less(t, time.Since(start), DefaultHeartbeatInterval)

		// Nor does a call that hangs keep Stop from returning.
		c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
		leader = c.leader()
		c.pass(testElection)
		start = time.Now()
		leader.Stop()
		require.LessOrEqual(t, time.Since(start), 2*testElection+time.Millisecond)
		c.Heal()
		require.NoError(t, c.Restart(leader.Name()))
		_, err := c.WaitForLeader(c.ctx)
		require.NoError(t, err)
		c.converge()
	})
}

func TestFault111_HalfOpenConnectionIsGivenUp(t *testing.T) {
	for _, back := range []bool{false, true} {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			c.Network().SetStreamLoss(StreamStalls)
			leader, cut := c.leader(), c.followers()[0]
			if back {
				c.Network().Block(cut, leader.Name())
			} else {
				c.Network().Block(leader.Name(), cut)
			}
			c.puts("during", 1, 10)
			c.pass(20 * testElection)
			require.Equal(t, leader, c.Leader())
			c.Heal()
			if back {
				// It had heard the leader all the time.
				require.Equal(t, Follower, c.Server(cut).State())
			}
			c.within(2*testElection, "the follower to catch up", func() bool {
				return c.Server(cut).Status().LastApplied == leader.Status().LastApplied
			})
			require.Equal(t, leader, c.Leader())
			c.converge()
		})
	}
}

func TestFault111_SuspendedPeer(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		for range 3 {
			leader, paused := c.leader(), c.followers()[0]
			c.Network().Pause(paused)
			c.puts("during", 1, 10)
			c.pass(50 * testElection)
			c.Network().Resume(paused)
			c.within(2*testElection, "the follower to catch up", func() bool {
				return c.Server(paused).Status().LastApplied == leader.Status().LastApplied
			})
			require.Equal(t, leader, c.Leader())

			// The leader itself is suspended, and comes back deposed.
			c.Network().Pause(leader.Name())
			c.within(5*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != leader })
			c.puts("without", 1, 10)
			c.Network().Resume(leader.Name())
			c.converge()
		}
	})
}

// TestFault081_RefillWaitsForTheCommit: b was down from the beginning; a and c
// went on, and c was bound by an entry that b lacks. c loses its store and joins
// anew. It is sent nothing before the entry of the join is committed, for which b
// must have all of the log: else c, with the beginning of the log, in which its
// name is not bound, and b could elect each other when a is gone. (Were c started
// with the initial configuration once more, b and it could not be told from a
// cluster that is only beginning.)
func TestFault081_RefillWaitsForTheCommit(t *testing.T) {
	for letters := range 12 {
		s := played(t, `cluster a b c batch=1
			timeout a
			deliver a->b
			drop a->c
			deliver b->a
			deliver a->b
			deliver b->a
			crash b
			drop
			lost a
			heartbeat a
			quiet
			heartbeat a
			quiet
			propose a x
			propose a y
			quiet
			wipe c`)
		a, b, c := s.server("a"), s.server("b"), s.server("c")
		c.disk.initial = newConfiguration(0, nil) // it waits to be joined
		s.play(t, "restart c\nrestart b")
		if m := a.configuration().find("c"); a.commitIndex != a.log.end || m.storeID == 0 || b.log.end != 1 {
			t.Fatalf("%v; %v", a, b)
		}
		// Both answer a heartbeat, c from its new store.
		a.office.answeredFrom(a.configuration(), "b", b.storeID)
		a.office.answeredFrom(a.configuration(), "c", c.storeID)
		s.play(t, "join a c")
		if a.configuration().votes("c") {
			t.Fatalf("%v", a)
		}
		for range letters { // what a and c say to each other arrives first
			for i, l := range s.letters {
				if l.to == "c" || l.from == "c" {
					s.arrive(s.take(i))
					break
				}
			}
		}
		s.play(t, "crash a\ndrop")
		for range 3 {
			s.play(t, "timeout c\nquiet\ntimeout b\nquiet")
		}
		if s.leads() != "" {
			t.Errorf("after %d letters %s leads without y", letters, s.leads())
		}
	}
}
