package raft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// abdicates has a leader give up its office, as one does that is removed, whose disk
// is full or stalls, or that cannot apply.
func (c *clusterTest) abdicates(leader Server) {
	leader.(*server).lifecycle.run.Load().inbox.put(control(func(l *eventLoop) {
		if l.raft.role == Leader && l.office != nil {
			l.abdicate()
		}
	}))
}

// writes has clients write, each a while after the last, until stop is called; it
// tells how many writes were acknowledged, and checks at the end that none of them is missing and
// none is there that certainly failed.
func (c *clusterTest) writes(clients int, pause time.Duration) (acknowledged *atomic.Int64, stop func()) {
	acknowledged = new(atomic.Int64)
	var working sync.WaitGroup
	end := make(chan struct{})
	var mu sync.Mutex
	must, never := map[string]bool{}, map[string]bool{}
	for client := range clients {
		working.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				case <-time.After(pause):
				}
				leader, value := c.Leader(), fmt.Sprint("w", client, "-", i)
				if leader == nil {
					continue
				}
				_, err := leader.DoContext(c.ctx, &testCommand{value})
				mu.Lock()
				if err == nil {
					must[value] = true
					acknowledged.Add(1)
				} else if errors.Is(err, ErrNotApplied) {
					never[value] = true
				}
				mu.Unlock()
			}
		})
	}
	return acknowledged, func() {
		close(end)
		working.Wait()
		c.converge()
		for _, value := range c.journal(c.leader().Name()).values() {
			require.False(c.t, never[value], "%s is applied", value)
			delete(must, value)
		}
		require.Empty(c.t, must, "acknowledged, and gone")
	}
}

// Row 17: a sync of the leader's disk takes a minute, and clients go on writing: to
// another leader within five election timeouts, for all of that minute.
func TestFault017_SyncTakesAMinute(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		for _, name := range c.Names() {
			c.syncTakes(name, time.Millisecond)
		}
		acknowledged, stop := c.writes(1, testElection/2)
		c.pass(testElection)
		old, began := c.leader(), time.Now()
		// What it has under way can be committed only with its own disk, or not at all.
		for _, name := range c.followers() {
			c.Network().Block(old.Name(), name)
		}
		mine := c.async(old, &testCommand{"mine"})
		c.pass(time.Millisecond)
		require.Empty(t, mine)
		c.Heal()
		release := c.stallDisk(old.Name())
		c.moved(old, 5*testElection)
		for time.Since(began) < time.Minute {
			before := acknowledged.Load()
			c.pass(3 * time.Second)
			require.Greater(t, acknowledged.Load(), before+20, "writes go on")
			require.NotEqual(t, Leader, old.State())
		}
		if got := <-mine; got.err != nil {
			requireUnknown(t, got.err)
			require.Less(t, got.took, 10*testElection, "long before its disk is done")
		}
		release()
		stop()
	})
}

// Row 19: leader after leader hands over at once, while clients write and messages
// take long. Who is told to stand may be behind others by what is under way, and lose:
// then somebody is elected as soon as timers end, and nothing is lost.
func TestFault019_HandOversUnderLoad(t *testing.T) {
	straight, took, longest := 0, 0, time.Duration(0)
	rounds := max(40, volume(60, 300, 1000)) // of fewer too many may go another way
	inRunningCluster(t, 5, ClusterOptions{ElectionTimeout: 600 * time.Millisecond}, func(c *clusterTest) {
		rng := rand.New(rand.NewPCG(19, 0))
		_, stop := c.writes(5, time.Millisecond)
		for range rounds {
			c.Delay(0, time.Duration(1+rng.Int64N(int64(50*time.Millisecond))))
			c.within(10*time.Second, "a leader", func() bool { return c.Leader() != nil && c.Leader().Status().Ready })
			c.pass(time.Duration(rng.Int64N(int64(100 * time.Millisecond))))
			old := c.leader()
			before, began := old.Status(), time.Now()
			c.abdicates(old)
			c.within(10*600*time.Millisecond, "a leader of a later term", func() bool {
				return c.Leader() != nil && c.Leader().Status().Term > before.Term
			})
			if took++; c.leader().Status().Term == before.Term+1 && c.leader() != old {
				straight++
			}
			longest = max(longest, time.Since(began))
		}
		stop()
	})
	t.Logf("%d of %d went to another server in the next term, the longest took %v", straight, took, longest)
	require.Greater(t, straight, took/2)
	require.Less(t, longest, 3*600*time.Millisecond)
}

// Row 20: a leader tells another to stand that is not reached, is cut off, and leads
// again later: nothing of the old office, neither the hand-over nor a change that was
// under way, keeps it from taking commands and changes.
func TestFault020_NothingOutlivesTheOffice(t *testing.T) {
	for name, options := range transports {
		for _, how := range []string{"hands over", "is cut off", "changes"} {
			t.Run(name+" "+how, func(t *testing.T) {
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					first, name := c.leader(), c.Add()
					require.NoError(t, c.Start(name))
					c.Network().Intercept(func(m MemoryMessage) bool {
						_, word := m.Message.(*TimeoutNowRequest)
						return !word
					})
					c.put("x")
					var under <-chan outcome
					if how == "changes" {
						c.Isolate(first.Name())
						under = c.async(first, &DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)})
						c.pass(time.Millisecond)
					} else if how == "hands over" {
						c.abdicates(first)
						c.pass(time.Millisecond)
					}
					c.Isolate(first.Name())
					c.moved(first, 10*testElection)
					second := c.leader()
					c.put("y")
					c.Heal()
					c.converge()
					if under != nil {
						got := <-under
						require.ErrorIs(t, got.err, ErrLeadershipLost)
					}
					// Nobody but the first may stand.
					c.Network().Intercept(func(m MemoryMessage) bool {
						_, vote := m.Message.(*RequestVoteRequest)
						return !vote || m.From == first.Name()
					})
					c.Crash(second.Name())
					c.within(20*testElection, "the first to lead again", func() bool { return c.Leader() == first })
					c.put("z")
					_, err := first.Do(&DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)})
					require.NoError(t, err)
					c.Network().Intercept(nil)
					require.NoError(t, c.Start(second.Name()))
					c.within(20*testElection, "the new one to vote", func() bool { return c.leader().MemberCount() == 4 && c.leader().QuorumSize() == 3 })
					c.converge()
				})
			})
		}
	}
}

// Row 21: the leader's word to stand gets lost, every time. Callers are told at once
// that it leads no more, or that nobody knows; there is another leader within five
// election timeouts.
func TestFault021_LostWordsCostAnElection(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		lost := 0
		c.Network().Intercept(func(m MemoryMessage) bool {
			if _, word := m.Message.(*TimeoutNowRequest); word {
				lost++
				return false
			}
			return true
		})
		for round := range 10 {
			c.converge()
			old := c.leader()
			if round%2 == 0 {
				c.abdicates(old)
			} else {
				c.failDisk(old.Name(), vfs.OpSync)
			}
			got := <-c.async(old, &testCommand{fmt.Sprint("mine", round)})
			if got.err != nil {
				require.True(t, errors.Is(got.err, ErrOutcomeUnknown) != errors.Is(got.err, ErrNotApplied), got.err)
				require.LessOrEqual(t, got.took, 3*testElection)
			}
			c.within(3*testElection, "a leader", func() bool { return c.Leader() != nil && c.Leader().Status().Ready })
			c.put(fmt.Sprint("x", round))
			if round%2 == 1 {
				require.ErrorIs(t, old.Err(), errDisk)
				c.Crash(old.Name())
				require.NoError(t, c.Start(old.Name()))
			}
		}
		require.GreaterOrEqual(t, lost, 10)
		c.converge()
	})
}
