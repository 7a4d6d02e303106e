package raft

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Row 11: a pre-vote binds nobody, granted or not.
func TestFault011_PreVoteChangesNothing(t *testing.T) {
	for name, last := range map[string]entryID{
		"longer log": {9, 1}, "same log": {3, 1}, "shorter log": {2, 1}, "later term": {1, 4}, "no log": {},
	} {
		for _, alive := range []bool{false, true} {
			for _, term := range []uint64{0, 1, 2, 3, 900, maxTerm, maxTerm + 1} {
				r := standing("b", 2, []uint64{1, 1, 1}, bound(1, "a", "b", "c"))
				r.observe(2)
				r.votedFor, r.leader = "c", "c"
				before := *r
				granted, _ := r.vote(&RequestVoteRequest{
					Term: term, LastLogIndex: last.index, LastLogTerm: last.term, CandidateName: "a", ClusterID: 9, PreVote: true,
				}, alive)
				if want := !alive && term > 2 && term <= maxTerm && !r.log.last().newerThan(last); granted != want {
					t.Errorf("%s, term %d, leader alive %t: granted %t", name, term, alive, granted)
				}
				if r.ballot != before.ballot || r.role != before.role || r.leader != before.leader || r.dismissed || r.commitIndex != 0 {
					t.Errorf("%s, term %d: %+v, was %+v", name, term, r, before)
				}
			}
		}
	}
}

// Row 11: one that can never win asks again and again for a pre-vote, granted or not,
// before the timer of the one who can win would end. That one leads all the same.
func TestFault011_PreVotesHoldUpNobody(t *testing.T) {
	for _, granted := range []bool{false, true} {
		for seed := range uint64(5) {
			inRunningCluster(t, 3, ClusterOptions{Seed: seed}, func(c *clusterTest) {
				leader, asks, best := c.leader(), c.followers()[0], c.Server(c.followers()[1])
				c.Network().Block(leader.Name(), asks)
				c.put("x") // which the one that asks has not
				c.Network().Intercept(func(m MemoryMessage) bool {
					_, vote := m.Message.(*RequestVoteRequest)
					return !vote || m.From == best.Name()
				})
				c.Crash(leader.Name())
				c.pass(testElection / 10)
				before := best.Status()
				request := RequestVoteRequest{Term: before.Term + 1, CandidateName: asks, ClusterID: best.ClusterID(), PreVote: true}
				if granted {
					request.LastLogIndex, request.LastLogTerm = before.LastIndex, before.LastTerm
				}
				done := make(chan int, 1)
				ctx, cancel := context.WithCancel(c.ctx)
				defer cancel()
				go func() {
					grants := 0
					for ctx.Err() == nil {
						if answer := best.RequestVote(&request); answer != nil && answer.VoteGranted {
							grants++
						}
						select {
						case <-time.After(testElection * 9 / 10):
						case <-ctx.Done():
						}
						request.Term = best.Term() + 1
					}
					done <- grants
				}()
				c.within(5*testElection, "the one with the log to lead", func() bool { return best.State() == Leader })
				cancel()
				if grants := <-done; granted {
					require.Positive(t, grants)
				} else {
					require.Zero(t, grants)
				}
				require.Equal(t, before.Term+1, best.Term())
				c.Network().Intercept(nil)
				c.Heal()
				c.put("y")
				require.NoError(t, c.Start(leader.Name()))
				c.converge()
			})
		}
	}
}

// pauseLoop keeps a server's event loop from going on, while what others send waits
// before it; resume ends that.
func (c *clusterTest) pauseLoop(name string) (resume func()) {
	end, paused := make(chan struct{}), make(chan struct{})
	c.Server(name).(*server).lifecycle.run.Load().inbox.put(control(func(*eventLoop) {
		close(paused)
		select {
		case <-end:
		case <-time.After(time.Minute): // the test has failed
		}
	}))
	<-paused
	return sync.OnceFunc(func() { close(end) })
}

// suspend keeps a server from doing anything, as when its process is suspended.
func (c *clusterTest) suspend(name string) (resume func()) {
	c.Network().Pause(name)
	free := c.pauseLoop(name)
	return func() {
		free()
		c.Network().Resume(name)
	}
}

// Row 122: a follower is suspended for five election timeouts, with the leader's
// heartbeats waiting before it. It reads them before it calls the leader silent.
func TestFault122_HeartbeatsBeforeTheTimer(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				leader, paused := c.leader(), c.followers()[0]
				term := leader.Term()
				var stood atomic.Int64
				c.Network().Intercept(func(m MemoryMessage) bool {
					if _, vote := m.Message.(*RequestVoteRequest); vote {
						stood.Add(1)
					}
					return true
				})
				for round := range 10 {
					resume := c.pauseLoop(paused)
					c.puts(fmt.Sprint("x", round, "-"), 1, 3)
					c.pass(5*testElection + time.Duration(round)*time.Millisecond)
					resume()
					c.pass(3 * testElection)
					require.Zero(t, stood.Load(), "round %d", round)
				}
				require.Equal(t, term, leader.Term())
				require.Equal(t, leader, c.Leader())
				c.converge()
			})
		})
	}
}

// Row 122: a leader that was suspended does not know that it was deposed. What it is
// asked when it goes on it does not acknowledge: the answers that wait for it are of
// before, and its office is up for a check.
func TestFault122_SuspendedLeaderPromisesNothing(t *testing.T) {
	for name, options := range transports {
		t.Run(name, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				for round := range 10 {
					old := c.leader()
					resume := c.suspend(old.Name())
					mine := c.async(old, &testCommand{fmt.Sprint("mine", round)})
					c.moved(old, 10*testElection)
					c.puts(fmt.Sprint("x", round, "-"), 1, 3)
					late := c.async(old, &testCommand{fmt.Sprint("late", round)})
					resume()
					for _, done := range []<-chan outcome{mine, late} {
						require.Error(t, (<-done).err)
					}
					c.within(2*testElection, "the old leader to know", func() bool { return old.State() == Follower })
					c.converge()
					require.NotContains(t, c.journal(old.Name()).values(), fmt.Sprint("late", round))
				}
			})
		})
	}
}

// Row 122: suspended for long, alone with what others said before, a leader gives up
// its office at the next check; no more than one check is credited.
func TestFault122_OneCheckForALongPause(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		c.pass(testElection)
		resume := c.pauseLoop(leader.Name())
		c.pass(DefaultHeartbeatInterval * 2) // answers come, which it does not look at
		for _, name := range c.followers() {
			c.Network().Block(name, leader.Name())
			c.Network().Block(leader.Name(), name)
		}
		c.pass(20 * testElection)
		resume()
		synctest.Wait()
		c.within(2*testElection, "it to give up", func() bool { return leader.State() != Leader })
		c.Heal()
		c.converge()
	})
}
