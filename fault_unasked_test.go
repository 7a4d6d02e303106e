package raft

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// TestFault037_WholeLogCompacted: the leader's snapshot stands for all of its log,
// nobody writes, and a follower is behind. It gets the snapshot all the same.
func TestFault037_WholeLogCompacted(t *testing.T) {
	for _, behind := range []string{"", "deliver a->c\n"} {
		s := played(t, "cluster a b c\ntimeout a\n"+behind+`quiet
			crash c
			propose a x
			propose a y
			quiet
			heartbeat a
			quiet`)
		a, c := s.server("a"), s.server("c")
		end := a.log.last()
		s.play(t, "compact a 4\nlost a\nrestart c")
		if a.log.base != end || a.commitIndex != end.index {
			t.Fatalf("%v", a)
		}
		for range 4 {
			s.play(t, "heartbeat a\nquiet")
		}
		if c.log.last() != end || c.commitIndex != end.index || c.installs != 1 || a.log.last() != end {
			t.Errorf("%v; %v", a, c)
		}
	}
}

// As TestFault037_WholeLogCompacted, with whole servers: what is missing is only in
// the leader's snapshot, and the follower comes back when nobody writes any more,
// also to a leader that has just begun.
func TestFault037_IdleLeaderOffersItsSnapshot(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
			c.put("x")
			c.converge()
			away := c.followers()[0]
			c.Stop(away)
			c.compacted(c.leader().Status().LastIndex+1, "y")
			c.converge()
			for _, s := range c.Servers() {
				require.NoError(t, s.TakeSnapshot())
			}
			if fresh {
				require.NoError(t, c.Restart(c.leader().Name()))
				c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
			}
			c.pass(100 * testElection)
			end, sent := c.leader().Status().LastIndex, c.watchSnapshots(nil)
			require.NoError(t, c.Start(away))
			c.converge()
			require.Equal(t, end, c.leader().Status().LastIndex, "without a write")
			require.NotEmpty(t, sent.offered())
		})
	}
}

// TestFault040_SwappedAppends: a fifth of the appends are overtaken by the one behind
// them. Nothing that was acknowledged is dropped (the ledger looks), no entry is
// replaced, nobody stands for election, and it costs no more than twice the messages.
func TestFault040_SwappedAppends(t *testing.T) {
	const commands = 400
	run := func(seed uint64, swaps bool) (sent int) {
		rng := rand.New(rand.NewPCG(seed, 40))
		s := played(t, "cluster a b c\ntimeout a\nquiet\nheartbeat a\nquiet")
		a := s.server("a")
		s.trace = func(format string, args ...any) {
			if strings.Contains(format, "replaces") {
				t.Errorf("seed %d: "+format, append([]any{seed}, args...)...)
			}
		}
		swapped := 0
		for i := 0; a.commitIndex < 2+commands; i++ {
			if i > 100*commands {
				t.Fatalf("seed %d: %v", seed, a)
			}
			if int(a.log.end) < 2+commands {
				a.propose("x")
				a.settle()
			} else if i%10 == 0 {
				s.play(t, "heartbeat a")
			}
			// What is under way for as long as it takes to write two entries arrives.
			for len(s.letters) > 8 || len(s.letters) > 0 && int(a.log.end) == 2+commands {
				at := 0
				if l := s.letters[0]; swaps && l.append != nil && rng.IntN(5) == 0 {
					next := slices.IndexFunc(s.letters[1:], func(o *letter) bool { return o.to == l.to && o.append != nil })
					if at = 1 + next; next >= 0 {
						swapped++
					}
				}
				l := s.take(at)
				if l.append != nil {
					sent++
				}
				s.arrive(l)
			}
			if len(s.failures) > 0 {
				t.Fatalf("seed %d: %v", seed, s.failures)
			}
		}
		if a.role != Leader || a.term != 1 || swaps && swapped < commands/10 {
			t.Errorf("seed %d: %d swaps, %v", seed, swapped, a)
		}
		return sent
	}
	for seed := range scale(10) {
		inOrder, swapped := run(seed, false), run(seed, true)
		if swapped > 2*inOrder {
			t.Errorf("seed %d: %d appends for what takes %d in order", seed, swapped, inOrder)
		}
	}
}

// Row 35: a follower has the first entry of a term that it led, which nobody else has,
// and the entries that it lacks are each as large as a message. Until it has caught up
// everybody can see how far behind it is.
func TestFault035_ConflictBeforeLargeEntries(t *testing.T) {
	options := ClusterOptions{Options: []Option{WithMaxEntryBytes(2 * maxBatchBytes), WithMaxUncommittedBytes(4 * maxBatchBytes)}}
	inRunningCluster(t, 3, options, func(c *clusterTest) {
		old, name := c.leader(), c.followers()[0]
		behind := c.Server(name)
		c.Network().Intercept(func(m MemoryMessage) bool {
			_, append := m.Message.(*AppendEntriesRequest)
			return !append || m.From != name
		})
		require.True(t, behind.TimeoutNow(standNow(old, behind)).Success)
		c.within(testElection/10, "it to lead", func() bool { return behind.State() == Leader })
		c.Isolate(name)
		stale := behind.Status()
		require.Equal(t, stale.Term, stale.LastTerm)
		c.moved(behind, 10*testElection)
		large := strings.Repeat("x", maxBatchBytes+maxBatchBytes/2)
		for range 5 {
			c.put(large)
		}
		match := func() uint64 {
			members := c.leader().Status().Members
			return members[slices.IndexFunc(members, func(m MemberStatus) bool { return m.Name == name })].Match
		}
		c.pass(20 * testElection)
		require.Less(t, match(), stale.LastIndex)
		require.Equal(t, stale.LastTerm, behind.Status().LastTerm)
		c.Network().Intercept(nil)
		c.Heal()
		c.converge()
		c.within(testElection, "the leader to know", func() bool { return match() == c.leader().Status().LastIndex })
		require.Len(t, c.journal(name).values(), 5)
	})
}

// Row 27: what a follower acknowledged, it loses; its disk was put back to before.
// The acknowledgement comes late, by a connection that is gone, and counts for
// nothing: the entry is on one disk of three.
func TestFault027_LateAckOfALogThatReverted(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.Network().SetStreamLoss(StreamSkips)
		leader, name := c.leader(), c.followers()[0]
		c.Isolate(c.followers()[1])
		node, index := c.node(name), leader.Status().LastIndex+1
		before := node.disk.Load().CrashClone(vfs.Everything)
		var mu sync.Mutex
		var late *AppendEntriesResponse
		c.Network().Intercept(func(m MemoryMessage) bool {
			mu.Lock()
			defer mu.Unlock()
			switch message := m.Message.(type) {
			case *AppendEntriesResponse:
				if m.From == name && message.success && message.index >= index {
					late = message
					return false
				}
			case *AppendEntriesRequest: // once it has acknowledged the entry, it gets it no more
				return m.To != name || late == nil || len(message.records) == 0
			}
			return true
		})
		mine := c.async(leader, &testCommand{"mine"})
		c.within(testElection/10, "the acknowledgement", func() bool { mu.Lock(); defer mu.Unlock(); return late != nil })
		var to *sender
		inbox := leader.(*server).lifecycle.run.Load().inbox
		inbox.put(control(func(l *eventLoop) { to = l.office.senders[name] }))
		synctest.Wait()
		generation := to.link.generation
		c.Crash(name)
		node.disk.Store(before)
		require.NoError(t, c.Start(name))
		c.within(testElection*2/3, "another connection", func() bool { return c.Server(name).Leader() == leader.Name() })
		require.Less(t, c.Server(name).Status().LastIndex, index)
		to.answers <- answer{link: generation, response: late}
		synctest.Wait()
		require.Equal(t, leader, c.Leader())
		require.Less(t, leader.CommitIndex(), index)
		for _, m := range leader.Status().Members {
			require.True(t, m.Name == leader.Name() || m.Match < index, "%s is taken to have the entry", m.Name)
		}
		require.Empty(t, mine)
		c.Network().Intercept(nil)
		c.Heal()
		c.converge()
		require.NoError(t, (<-mine).err)
	})
}
