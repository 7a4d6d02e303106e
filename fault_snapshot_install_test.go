package raft

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFault084_OneInstallOverADivergentTail: an old leader comes back with entries
// that nobody else has, where the snapshot ends and behind it.
func TestFault084_OneInstallOverADivergentTail(t *testing.T) {
	for form, options := range transports {
		for _, tail := range []int{10, 900} {
			t.Run(fmt.Sprint(form, tail), func(t *testing.T) {
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					c.puts("a", 1, 5)
					c.converge()
					old := c.leader().Name()
					last := int(c.leader().Status().LastIndex)
					c.Isolate(old)
					var lost []<-chan outcome
					for i := range tail {
						lost = append(lost, c.async(c.Server(old), &testCommand{fmt.Sprint("lost", i)}))
					}
					c.within(10*testElection, "another leader", func() bool { return c.Leader() != nil && c.leader().Name() != old })
					for _, done := range lost {
						require.Error(t, (<-done).err)
					}
					require.EqualValues(t, last+tail, c.Server(old).Status().LastIndex)
					c.compacted(10, "b")
					calls := c.watchSnapshots(nil)
					c.Heal()
					c.converge()
					require.Equal(t, 1, c.journal(old).recovered)
					require.Len(t, calls.sent(), 1)
					c.puts("c", 1, 20)
					c.pass(10 * testElection)
					c.converge()
					require.Equal(t, 1, c.journal(old).recovered)
					require.Len(t, calls.sent(), 1)
					require.NotContains(t, c.journal(old).values(), "lost0")
					require.NoError(t, c.Restart(old))
					c.converge()
				})
			})
		}
	}
}

// inBehind runs f with a cluster in which a follower is started that needs the
// leader's snapshot, and cannot hear of it before Heal.
func inBehind(t *testing.T, options ClusterOptions, prepare func(c *clusterTest), f func(c *clusterTest, leader, behind, third string)) {
	t.Helper()
	inCluster(t, 3, options, func(c *clusterTest) {
		if prepare != nil {
			prepare(c)
		}
		require.NoError(c.t, c.Bootstrap(c.ctx))
		require.NoError(c.t, c.WaitForConverged(c.ctx))
		c.puts("a", 1, 5)
		c.converge()
		behind, third := c.followers()[0], c.followers()[1]
		c.Isolate(behind)
		c.compacted(10, "b")
		f(c, c.leader().Name(), behind, third)
	})
}

// TestFault085_LateAndDuplicateSnapshots: what was sent in a transfer arrives once
// more, twice, while later entries are stored and applied.
func TestFault085_LateAndDuplicateSnapshots(t *testing.T) {
	var free, blocked chan struct{}
	prepare := func(c *clusterTest) {
		free, blocked = make(chan struct{}), make(chan struct{}, 1)
		c.during = func(ctx Context, value string) {
			if value == "blocks" && ctx.Server().Name() != c.leader().Name() {
				select {
				case blocked <- struct{}{}:
				default:
				}
				<-free
			}
		}
		c.Network().SetDuplicates(1)
	}
	inBehind(t, ClusterOptions{}, prepare, func(c *clusterTest, leader, behind, third string) {
		calls := c.watchSnapshots(nil)
		c.Heal()
		c.converge()
		server := c.Server(behind)
		late := func(during string) {
			before := server.Status()
			applied := c.journal(behind).entries()
			for range 2 {
				for _, offer := range calls.offered() {
					again := *offer
					answer := server.RequestSnapshot(&again)
					require.False(t, answer.Success, during)
					require.Equal(t, before.CommitIndex, answer.CommitIndex, during)
				}
				for _, piece := range calls.sent() {
					again := *piece
					answer := server.SnapshotRecoveryRequest(&again)
					require.Equal(t, before.CommitIndex, answer.CommitIndex, during)
					again = *piece
					again.SnapshotID, again.State = 0, writeJournal([]journalEntry{{1, 1, "of another state"}})
					answer = server.SnapshotRecoveryRequest(&again)
					require.Equal(t, before.CommitIndex, answer.CommitIndex, during)
				}
			}
			after := server.Status()
			require.Equal(t, before.LastIndex, after.LastIndex, during)
			require.Equal(t, before.FirstIndex, after.FirstIndex, during)
			require.GreaterOrEqual(t, after.DurableIndex, before.DurableIndex, during)
			require.Equal(t, before.Term, after.Term, during)
			require.Equal(t, Follower, after.State, during)
			require.True(t, prefixOf(applied, c.journal(behind).entries()), during)
			require.Equal(t, 1, c.journal(behind).recovered, during)
		}
		late("after the install")
		c.puts("c", 1, 10)
		c.converge()
		late("with more applied")

		// Entries that are stored and not known to be committed, and a blocked Apply.
		c.Isolate(third)
		done := c.async(c.Server(leader), &testCommand{"blocks"})
		require.NoError(t, (<-done).err)
		<-blocked
		late("during Apply")
		c.Network().Block(leader, behind)
		late("with the leader away")
		close(free)
		c.Heal()
		c.converge()
		require.NoError(t, c.Restart(behind))
		c.converge()
	})
}

// TestFault085_DuplicatedTransfer: each message of a transfer arrives twice, the
// second time late.
func TestFault085_DuplicatedTransfer(t *testing.T) {
	for seed := range scale(5) {
		prepare := func(c *clusterTest) { c.streamed(3<<20, nil) }
		inBehind(t, ClusterOptions{Seed: seed}, prepare, func(c *clusterTest, _, behind, _ string) {
			c.Delay(0, 2*DefaultHeartbeatInterval/3)
			c.Network().SetDuplicates(1)
			c.Heal()
			for i := range 30 {
				c.put(fmt.Sprint("c", i))
			}
			c.within(40*testElection, "the follower", func() bool {
				return c.Server(behind).Status().LastApplied >= c.leader().Status().CommitIndex
			})
			c.Delay(0, time.Millisecond)
			c.pass(testElection)
			c.converge()
			require.NotZero(t, c.Network().Stats().Duplicated)
			require.Equal(t, 1, c.journal(behind).recovered, "one install, of what came twice")
		})
	}
}

// TestFault086_SnapshotOfADeposedLeader: the term that counts is the leader's; that
// of the snapshot never becomes the server's.
func TestFault086_SnapshotOfADeposedLeader(t *testing.T) {
	inBehind(t, ClusterOptions{}, nil, func(c *clusterTest, leader, behind, third string) {
		calls := c.watchSnapshots(isPiece)
		c.Heal()
		c.within(10*testElection, "a piece", func() bool { return len(calls.sent()) > 0 })
		offer, piece := *calls.offered()[0], *calls.sent()[0]

		// Another leader, in a later term.
		c.Isolate(leader)
		c.within(20*testElection, "another leader", func() bool { return c.Leader() != nil && c.leader().Name() != leader })
		require.Equal(t, third, c.leader().Name())
		term := c.leader().Term()
		require.Greater(t, term, offer.Term)
		require.Greater(t, term, offer.LastTerm)
		c.within(testElection, "its first entry", func() bool { return c.Server(behind).Leader() == third })
		for what, change := range map[string]func(){
			"as it was":         func() {},
			"without a term":    func() { offer.Term, piece.Term = 0, 0 },
			"as a whole":        func() { piece.SnapshotID, piece.State = 0, writeJournal([]journalEntry{{1, 1, "x"}}) },
			"of a later entry":  func() { offer.LastIndex, piece.LastIndex = 1e6, 1e6 },
			"goraft's own form": func() { offer = SnapshotRequest{LeaderName: leader, LastIndex: 1e6, LastTerm: 1} },
		} {
			change()
			o, p := offer, piece
			answer := c.Server(behind).RequestSnapshot(&o)
			require.False(t, answer.Success, what)
			require.Equal(t, term, answer.Term, what)
			recovered := c.Server(behind).SnapshotRecoveryRequest(&p)
			require.False(t, recovered.Success, what)
			require.Equal(t, term, recovered.Term, what)
			require.Equal(t, term, c.Server(behind).Term(), what)
			require.Equal(t, third, c.Server(behind).Leader(), what)
		}
		require.Zero(t, c.journal(behind).recovered)
		calls.losing(nil)
		c.Heal()
		c.converge()
	})
}

// TestFault087_OfferThenSilence: a server that was offered a snapshot, or sent a
// part of it, is one that waits for its leader like any other.
func TestFault087_OfferThenSilence(t *testing.T) {
	for _, pieces := range []int{0, 2} {
		t.Run(fmt.Sprint(pieces, " pieces"), func(t *testing.T) {
			prepare := func(c *clusterTest) { c.streamed(5<<20, nil) }
			inBehind(t, ClusterOptions{}, prepare, func(c *clusterTest, leader, behind, third string) {
				sent := 0
				calls := c.watchSnapshots(func(m MemoryMessage) bool {
					if isPiece(m) {
						sent++
					}
					return sent > pieces
				})
				c.Heal()
				c.within(testElection, "the offer", func() bool { return c.Server(behind).State() == Snapshotting })
				c.within(100*testElection, "the pieces", func() bool { return len(calls.sent()) > pieces })
				require.NotEmpty(t, calls.offered())

				// The leader dies. The two that are left are a majority, and only one of
				// them has the log for it.
				c.Crash(leader)
				calls.losing(isPiece)
				c.within(10*testElection, "another leader", func() bool { return c.Leader() != nil })
				require.Equal(t, third, c.leader().Name())
				calls.losing(nil)
				c.converge() // by the third one's log
				c.within(3*testElection, "the end of it", func() bool { return c.Server(behind).State() != Snapshotting })
				names, err := c.node(behind).disk.Load().ReadDir(behind + "/snapshot")
				require.NoError(t, err)
				require.Empty(t, names, "what nobody goes on with")
				require.NoError(t, c.Start(leader))
				c.put("after")
				c.converge()
			})
		})
	}
}

// TestFault087_SnapshottingEnds: nobody is parked by an offer, however long the
// silence.
func TestFault087_SnapshottingEnds(t *testing.T) {
	inBehind(t, ClusterOptions{}, nil, func(c *clusterTest, leader, behind, third string) {
		server := c.Server(behind)
		before := server.Status()
		answer := server.RequestSnapshot(&SnapshotRequest{
			LeaderName: leader, LastIndex: 1000, LastTerm: before.Term, Term: before.Term, SnapshotID: 7, Size: 1 << 40,
		})
		require.True(t, answer.Success)
		require.Equal(t, Snapshotting, server.State())
		c.within(4*testElection, "the end of it", func() bool { return server.State() != Snapshotting })
		for range 1000 {
			c.pass(testElection / 10)
			require.NotEqual(t, Snapshotting, server.State())
		}
		require.Equal(t, before.Term, server.Term(), "pre-votes raise no terms")
		c.Heal()
		c.converge()
		require.Equal(t, leader, c.leader().Name())
		_ = third
	})
}
