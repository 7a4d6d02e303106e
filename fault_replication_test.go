package raft

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// droppedAt loses the k-th message from now on.
func (c *clusterTest) droppedAt(k int) {
	sent := 0
	c.Network().Intercept(func(MemoryMessage) bool {
		sent++
		return sent != k
	})
}

func TestFault036_OneLostMessageWedgesNothing(t *testing.T) {
	// Each message of an exchange of two hundred is lost in turn.
	const losses = 200
	step := oneOf(1, 1, 1) | 1 // odd: requests and answers take turns
	for name, options := range transports {
		modes := []StreamLoss{StreamBreaks, StreamStalls, StreamSkips}
		if name != "streams" {
			modes = modes[:1]
		}
		for _, mode := range modes {
			t.Run(fmt.Sprint(name, mode), func(t *testing.T) {
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					c.Network().SetStreamLoss(mode)
					leader := c.leader()
					term := leader.Term()
					retry := 2 * DefaultHeartbeatInterval
					// A stalled connection is found out only by its silence.
					if mode == StreamStalls {
						retry = 2 * testElection
					}
					for k := 0; k < losses; k += step {
						c.droppedAt(1 + k)
						lost := c.Network().Stats().Dropped
						for i := 0; c.Network().Stats().Dropped == lost; i++ {
							c.put(fmt.Sprint(k, "-", i))
						}
						index := leader.Status().LastIndex
						c.within(retry+10*time.Millisecond, fmt.Sprintf("message %d to be made up for", k), func() bool {
							return !slices.ContainsFunc(leader.Status().Members, func(m MemberStatus) bool {
								return m.Match < index
							})
						})
						c.Network().Intercept(nil)
					}
					c.converge()
					require.Equal(t, term, leader.Term())
				})
			})
		}
	}
}

// TestFault036_LostHandshake holds that a leader speaks to a follower while the
// stream to it is slow to open.
func TestFault036_LostHandshake(t *testing.T) {
	for seed := range uint64(10) {
		inRunningCluster(t, 3, ClusterOptions{Seed: seed}, func(c *clusterTest) {
			leader := c.leader()
			c.Crash(c.followers()[0])
			alive, handshakes := c.followers()[0], 0
			c.Network().Intercept(func(m MemoryMessage) bool {
				_, request := m.Message.(*AppendEntriesRequest)
				switch {
				case m.Message == nil && !m.Answer && m.To == alive:
					handshakes++
					return handshakes > 1
				case request && handshakes == 0 && m.Stream:
					return false // breaks the stream that there is
				}
				return true
			})
			c.put("x")
			c.pass(10 * testElection)
			require.Greater(t, handshakes, 1)
			require.Equal(t, uint64(1), leader.Term())
			require.Equal(t, leader, c.Leader())
		})
	}
}

func TestFault038_MessagesShareNoMemoryThatChanges(t *testing.T) {
	for name, options := range transports {
		for _, checked := range []bool{false, true} {
			t.Run(fmt.Sprint(name, checked), func(t *testing.T) {
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					c.Network().SetChecked(checked)
					c.Delay(0, 30*time.Millisecond)
					for round := range 15 {
						// Entries that will be truncated are still on their way when
						// others take their places.
						old := c.leader()
						var lost []<-chan outcome
						for i := range 20 {
							lost = append(lost, c.async(old, &testCommand{fmt.Sprint("lost", round, "-", i)}))
							if i == 10 {
								c.pass(time.Millisecond)
								c.Isolate(old.Name())
							}
						}
						c.within(10*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != old })
						for i := range 5 {
							_, _ = c.Do(c.ctx, &testCommand{fmt.Sprint("kept", round, "-", i)})
						}
						c.Heal()
						c.converge()
						for _, done := range lost {
							<-done
						}
					}
					require.Zero(t, c.Network().Stats().Changed)
				})
			})
		}
	}
}

func TestFault044_SingleServerSyncsBeforeItAnswers(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{SyncDelay: time.Millisecond}, func(c *clusterTest) {
		var want []string
		for i := range 20 {
			value := fmt.Sprint("x", i)
			start := time.Now()
			c.put(value)
			require.GreaterOrEqual(t, time.Since(start), time.Millisecond)
			want = append(want, value)
			c.crash(c.node("s1"), vfs.Nothing)
			require.NoError(t, c.Start("s1"))
			_, err := c.WaitForLeader(c.ctx)
			require.NoError(t, err)
			require.Equal(t, want, c.journal("s1").values())
		}
	})
}

func TestFault045_UnsyncedCopyOfTheLeaderDoesNotCount(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, followers := c.leader(), c.followers()
		c.Isolate(followers[0])
		c.failDisk(leader.Name(), vfs.OpSync)
		got := <-c.async(leader, &testCommand{"x"})
		requireUnknown(t, got.err)
		require.ErrorIs(t, leader.Err(), errDisk)
		require.False(t, leader.Running())
		c.Heal()
		c.within(5*testElection, "another leader", func() bool { return c.Leader() != nil })
		c.put("y")
		c.crash(c.node(leader.Name()), vfs.Nothing)
		require.NoError(t, c.Start(leader.Name()))
		c.converge()
	})
}

func TestClusterGoesOnWhileTheLeadersDiskStalls(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		release := c.stallDisk(leader.Name())
		for i := range 100 {
			start := time.Now()
			c.put(fmt.Sprint("x", i))
			require.Less(t, time.Since(start), testElection)
		}
		c.pass(time.Minute)
		c.put("late")
		release()
		c.converge()
	})
}

func TestFault053_CallerNeverGetsAnothersResult(t *testing.T) {
	lost := 0
	for seed := range uint64(10) {
		inRunningCluster(t, 3, ClusterOptions{Seed: seed}, func(c *clusterTest) {
			old := c.leader()
			c.Isolate(old.Name())
			mine := c.async(old, &testCommand{"mine"})
			c.within(5*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != old })
			index := old.Status().LastIndex
			for c.leader().Status().LastIndex < index+3 {
				c.put("theirs")
			}
			c.Heal()
			c.converge()
			got := <-mine
			require.Error(t, got.err)
			require.Nil(t, got.value)
			if errors.Is(got.err, ErrNotApplied) {
				requireNotApplied(t, got.err, ErrLost)
				lost++
			}
			require.NotContains(t, c.journal(old.Name()).values(), "mine")
		})
	}
	require.NotZero(t, lost, "nobody was told that the command is lost")
}

func TestFault054_FailedIsSaidOnlyOfWhatNeverCommits(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		old, heir := c.leader(), c.followers()[0]
		c.Network().Block(old.Name(), c.followers()[1])
		// The entry reaches the heir; its answer does not come back.
		c.Network().Block(heir, old.Name())
		mine := c.async(old, &testCommand{"mine"})
		c.within(testElection, "the entry to reach the follower", func() bool {
			return c.Server(heir).Status().DurableIndex == old.Status().LastIndex
		})
		c.Isolate(old.Name())
		c.within(5*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != old })
		require.Equal(t, heir, c.leader().Name())
		got := <-mine
		requireUnknown(t, got.err)
		c.Heal()
		c.converge()
		require.Contains(t, c.journal(heir).values(), "mine")
	})
}

// TestFault054_Outcomes holds what callers were told against what was applied,
// while leaders come and go.
func TestFault054_Outcomes(t *testing.T) {
	told := map[string]int{}
	for seed := range uint64(6) {
		inRunningCluster(t, 3, ClusterOptions{Seed: seed}, func(c *clusterTest) {
			results := make(map[string]<-chan outcome)
			for round := range 12 {
				for i := range 10 {
					for _, name := range c.Names() {
						value := fmt.Sprint(name, "-", round, "-", i)
						results[value] = c.async(c.Server(name), &testCommand{value})
					}
					c.pass(3 * time.Millisecond)
					if i == 5 {
						c.Isolate(c.Names()[round%3])
					}
				}
				c.pass(time.Duration(round) * testElection / 2)
				c.Heal()
			}
			c.pass(10 * testElection)
			c.converge()
			applied := c.journal("s1").values()
			for value, result := range results {
				got := <-result
				switch {
				case got.err == nil:
					require.Contains(t, applied, value)
					told["applied"]++
				case errors.Is(got.err, ErrNotApplied):
					require.NotErrorIs(t, got.err, ErrOutcomeUnknown)
					require.NotContains(t, applied, value)
					told["not applied"]++
				default:
					requireUnknown(t, got.err)
					told["unknown"]++
				}
			}
		})
	}
	t.Log(told)
	require.Len(t, told, 3)
}
