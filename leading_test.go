package raft

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Row 19: the office goes to whoever is named, again and again, over links of up to 50
// ms, while clients write; none of their writes is lost.
func TestFault019_TransfersUnderLoad(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{ElectionTimeout: time.Second, HeartbeatInterval: 100 * time.Millisecond}, func(c *clusterTest) {
		c.Delay(0, 50*time.Millisecond)
		acknowledged, stop := c.writes(4, time.Millisecond)
		for i := range 200 {
			old, err := c.WaitForLeader(c.ctx)
			require.NoError(c.t, err)
			name := ""
			if i%3 > 0 {
				name = c.followers()[i%2]
			}
			before, begun := acknowledged.Load(), time.Now()
			require.NoError(c.t, old.TransferLeadership(c.ctx, name), "to %q", name)
			require.Less(c.t, time.Since(begun), time.Second)
			require.NotEqual(c.t, old.Name(), old.Leader())
			if name != "" {
				require.Equal(c.t, name, old.Leader())
			}
			c.within(time.Second, "a leader that serves", func() bool { return c.Leader() != nil && acknowledged.Load() > before+3 })
		}
		stop()
		c.converge()
	})
}

// Row 20: a leader is cut off while it hands over, another one leads, and it is elected
// again: it serves, whatever it had begun.
func TestFault020_TransferDiesWithTheOffice(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		old, followers := c.leader(), c.followers()
		c.Isolate(followers[0])
		c.put("x")
		transfer := c.transfer(old, followers[0])
		synctest.Wait()
		c.Heal()
		c.Isolate(old.Name())
		require.Error(c.t, <-transfer)
		c.within(20*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != old })
		c.Heal()
		c.converge()
		require.NoError(c.t, c.leader().TransferLeadership(c.ctx, old.Name()))
		_, err := c.WaitForLeader(c.ctx)
		require.NoError(c.t, err)
		require.Equal(c.t, old, c.leader())
		c.put("y")
		require.NoError(c.t, old.TransferLeadership(c.ctx, followers[0]), "and can hand over anew")
	})
}

// Row 21: the word to stand is lost. The leader serves again after an election timeout,
// and says so.
func TestFault021_LostWordOfATransfer(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, followers := c.leader(), c.followers()
		c.Network().Intercept(func(m MemoryMessage) bool {
			_, word := m.Message.(*TimeoutNowRequest)
			return !word
		})
		transfer, begun := c.transfer(leader, followers[0]), time.Now()
		synctest.Wait()
		require.ErrorIs(c.t, leader.TransferLeadership(c.ctx, followers[1]), ErrTransfer, "one at a time")
		require.ErrorIs(c.t, <-transfer, ErrTransfer)
		require.Equal(c.t, testElection, time.Since(begun))
		c.put("it serves")
		require.Equal(c.t, leader, c.leader())
	})
}

// Row 22: the office goes to no learner, and nobody is harmed by trying.
func TestFault022_NoTransferToALearner(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		require.NoError(c.t, leader.AddPeer("s4", "memory://s4")) // which nobody starts
		require.ErrorIs(c.t, leader.TransferLeadership(c.ctx, "s4"), ErrTransfer)
		c.put("it serves")
		require.Equal(c.t, leader, c.leader())
	})
}

// What waits while the office is handed over is neither lost nor staged: it is refused
// when the office is gone, and staged if it stays.
func TestTransferHoldsProposals(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.put("x")
		c.converge()
		leader, to := c.leader(), c.followers()[0]
		last := leader.Status().LastIndex
		c.Isolate(to)
		c.put("y")
		transfer := c.transfer(leader, to)
		synctest.Wait()
		write := c.async(leader, &testCommand{"z"})
		c.pass(testElection / 2)
		require.Empty(c.t, write)
		require.Empty(c.t, transfer)
		require.Equal(c.t, last+1, leader.Status().LastIndex)
		require.ErrorIs(c.t, <-transfer, ErrTransfer)
		require.NoError(c.t, (<-write).err, "it serves again")
		require.Equal(c.t, Leader, leader.State())
		c.Heal()
		c.converge()

		c.Delay(10*time.Millisecond, 10*time.Millisecond)
		transfer = c.transfer(leader, to)
		synctest.Wait()
		write = c.async(leader, &testCommand{"z"})
		require.NoError(c.t, <-transfer)
		requireNotApplied(c.t, (<-write).err, NotLeaderError)
	})
}

// transfer asks for a transfer without waiting for it.
func (c *clusterTest) transfer(leader Server, to string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- leader.TransferLeadership(c.ctx, to) }()
	return done
}

// A transfer that cannot be says why, and the leader goes on serving.
func TestTransferFails(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, followers := c.leader(), c.followers()
		require.NoError(c.t, leader.TransferLeadership(c.ctx, leader.Name()), "it leads already")
		require.ErrorIs(c.t, leader.TransferLeadership(c.ctx, "nobody"), ErrPeerNotFound)
		require.Equal(c.t, NotLeaderError, c.Server(followers[0]).TransferLeadership(c.ctx, leader.Name()))

		halted := c.Server(followers[0])
		halted.(*server).lifecycle.run.Load().inbox.put(control(func(l *eventLoop) { l.halted = true }))
		begun := time.Now()
		require.ErrorIs(c.t, leader.TransferLeadership(c.ctx, followers[0]), ErrTransfer)
		require.Less(c.t, time.Since(begun), testElection/2, "who declines is believed at once")
		c.put("it serves")
		require.Equal(c.t, leader, c.leader())

		short, cancel := context.WithCancel(c.ctx)
		c.Delay(10*time.Millisecond, 10*time.Millisecond)
		go func() {
			c.pass(time.Millisecond)
			cancel()
		}()
		require.ErrorIs(c.t, leader.TransferLeadership(short, followers[1]), context.Canceled)
		require.ErrorIs(c.t, leader.TransferLeadership(short, followers[1]), CommandTimeoutError)
		c.within(testElection, "the transfer to go on", func() bool { return c.Leader() != nil && c.Leader() != leader })
	})
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		require.ErrorIs(c.t, c.leader().TransferLeadership(c.ctx, ""), ErrTransfer)
		require.ErrorIs(c.t, c.leader().StepDown(c.ctx, time.Hour), ErrTransfer)
		c.put("it serves")
	})
	inRunningCluster(t, 3, transports["bare"], func(c *clusterTest) {
		require.ErrorIs(c.t, c.leader().TransferLeadership(c.ctx, ""), ErrTransfer)
		c.put("it serves")
	})
}

// Who has stepped down leaves the office to the others for as long as it said, also
// when they are gone.
func TestStepDown(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		const cooldown = 20 * testElection
		old := c.leader()
		begun := time.Now()
		require.NoError(c.t, old.StepDown(c.ctx, cooldown))
		next, err := c.WaitForLeader(c.ctx)
		require.NoError(c.t, err)
		require.NotEqual(c.t, old, next)
		require.ErrorIs(c.t, next.TransferLeadership(c.ctx, old.Name()), ErrTransfer, "it rests")
		third := c.followers()[0]
		if third == old.Name() {
			third = c.followers()[1]
		}
		c.Crash(third)
		c.Isolate(next.Name())
		c.pass(cooldown - time.Since(begun))
		require.Nil(c.t, c.Leader())
		require.NoError(c.t, c.Start(third))
		c.Heal()
		c.converge()
		if c.leader() != old {
			require.NoError(c.t, c.leader().TransferLeadership(c.ctx, old.Name()))
		}
		next, err = c.WaitForLeader(c.ctx)
		require.NoError(c.t, err)
		require.Equal(c.t, old, next, "it has rested")
	})
}

// Row 66: a leader that is cut off, or stalled, cannot show that it is one; its term
// shows to others that it is not.
func TestFault066_VerifiedLeadership(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.put("x")
		old := c.leader()
		term, err := old.VerifyLeader(c.ctx)
		require.NoError(c.t, err)
		require.Equal(c.t, old.Term(), term)
		_, err = c.Server(c.followers()[0]).VerifyLeader(c.ctx)
		require.Equal(c.t, NotLeaderError, err)

		old.SetElectionTimeout(100 * testElection) // it will not notice by itself
		c.Isolate(old.Name())
		c.within(10*testElection, "the next leader", func() bool { return c.Leader() != nil && c.Leader() != old })
		require.Equal(c.t, Leader, old.State())
		require.True(c.t, old.Status().Ready)
		bounded, cancel := context.WithTimeout(c.ctx, 10*testElection)
		_, err = old.VerifyLeader(bounded)
		cancel()
		require.ErrorIs(c.t, err, CommandTimeoutError)
		next := c.Leader()
		c.within(testElection, "an entry of its own", func() bool { return next.Status().Ready })
		later, err := next.VerifyLeader(c.ctx)
		require.NoError(c.t, err)
		require.Greater(c.t, later, term)

		verified := make(chan error, 1)
		go func() {
			_, err := old.VerifyLeader(c.ctx)
			verified <- err
		}()
		synctest.Wait()
		c.Heal()
		require.Equal(c.t, NotLeaderError, <-verified)
		old.Stop()
		_, err = old.VerifyLeader(c.ctx)
		require.Equal(c.t, StopError, err)
	})
}

// A loop over the changes sees the latest, however slow it is, and those who do not
// come back hold up nobody.
func TestLeaderChanges(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		ctx, cancel := context.WithCancel(c.ctx)
		var watching sync.WaitGroup
		var mu sync.Mutex
		latest, slow := map[string]LeaderChange{}, map[string]LeaderChange{}
		watch := func(s Server, into map[string]LeaderChange, pause time.Duration) {
			watching.Go(func() {
				var last LeaderChange
				for change := range s.LeaderChanges(ctx) {
					if change.Term < last.Term || into != nil && change == last && change != (LeaderChange{}) {
						c.t.Errorf("%s: %+v after %+v", s.Name(), change, last)
					}
					last = change
					mu.Lock()
					into[s.Name()] = change
					mu.Unlock()
					if pause > 0 {
						select {
						case <-ctx.Done():
						case <-time.After(pause):
						}
					}
				}
			})
		}
		require.NoError(c.t, c.Bootstrap(c.ctx))
		require.NoError(c.t, c.WaitForConverged(c.ctx))
		for _, s := range c.Servers() {
			watch(s, latest, 0)
			watch(s, slow, 7*testElection)
			for range s.LeaderChanges(ctx) {
				break // who leaves is forgotten
			}
		}
		for i := range 10 {
			old := c.leader()
			require.NoError(c.t, old.TransferLeadership(c.ctx, ""))
			c.put(fmt.Sprint("x", i))
			c.converge()
			synctest.Wait()
			mu.Lock()
			for name, s := range c.Servers() {
				want := LeaderChange{Term: s.Term(), Leader: c.leader().Name(), Ready: s == c.leader()}
				require.Equal(c.t, want, latest[name])
			}
			mu.Unlock()
		}
		c.pass(10 * testElection)
		mu.Lock()
		require.Equal(c.t, latest, slow)
		mu.Unlock()
		leader := c.leader()
		leader.Stop()
		synctest.Wait()
		mu.Lock()
		require.Empty(c.t, latest[leader.Name()].Leader)
		mu.Unlock()
		cancel()
		watching.Wait()
	})
}
