package raft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// Whoever calls a server whose disk is full or stalled for long does not wait
// together with all who came before: what is shed is answered by nothing.
func TestFault099_CallersThatAreShedReturn(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader, s := c.leader(), c.Server(c.followers()[0])
		term := leader.Term()
		c.Stop(leader.Name())
		release := c.stallDisk(s.Name())
		defer release()
		waiting := func(call func()) (n int) {
			const calls = 2 * maxPromises
			returned := make(chan struct{}, calls)
			for range calls {
				go func() { call(); returned <- struct{}{} }()
				if n++; n%100 == 0 {
					synctest.Wait()
				}
			}
			synctest.Wait()
			return calls - len(returned)
		}
		request := &AppendEntriesRequest{Term: term + 100, LeaderName: leader.Name(), To: s.Name(), ClusterID: s.ClusterID()}
		request.PrevLogIndex, request.PrevLogTerm = 1<<40, term
		require.LessOrEqual(t, waiting(func() { s.AppendEntries(request) }), maxPromises)
		vote := &RequestVoteRequest{Term: term + 100, CandidateName: leader.Name(), To: s.Name(), ClusterID: s.ClusterID()}
		require.LessOrEqual(t, waiting(func() { s.RequestVote(vote) }), maxPromises)
		release()
		c.pass(time.Second)
		require.NoError(t, c.Start(leader.Name()))
		c.pass(20 * testElection)
		c.converge()
	})
}

// What a server says of its disk does not wait for somebody to talk to it.
func TestFault017_StatusTellsOfAStallInAnyRole(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		name := c.followers()[0]
		for _, other := range c.Names() {
			if other != name {
				c.Stop(other)
			}
		}
		s := c.Server(name)
		c.pass(10 * testElection)
		release := c.stallDisk(name)
		go s.FlushCommitIndex()
		s.(*server).lifecycle.run.Load().inbox.put(control(func(l *eventLoop) {
			l.raft.observe(l.raft.term + 1)
		}))
		c.pass(10 * testElection)
		require.NotEmpty(t, s.Status().StorageError, s.State())
		release()
		c.pass(testElection)
		require.Empty(t, s.Status().StorageError)
		for _, other := range c.Names() {
			if other != name {
				require.NoError(t, c.Start(other))
			}
		}
		c.pass(40 * testElection)
		c.converge()
	})
	t.Run("alone", func(t *testing.T) {
		inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
			name := c.leader().Name()
			c.Stop(name)
			require.NoError(t, c.Start(name))
			release := c.stallDisk(name)
			c.pass(10 * testElection)
			require.NotEmpty(t, c.Server(name).Status().StorageError, c.Server(name).State())
			release()
			c.pass(10 * testElection)
			require.Empty(t, c.Server(name).Status().StorageError)
			c.put("x")
		})
	})
}

// Where the others are no majority of the members, an election needs the vote of
// the server whose disk is the trouble, and commits need its disk: nobody can do
// better. The leader stays and refuses what it cannot store.
func TestFault099_StaysWhereTheOthersAreNoMajority(t *testing.T) {
	for _, n := range []int{2, 4} {
		inRunningCluster(t, n, ClusterOptions{}, func(c *clusterTest) {
			leader := c.leader()
			if n == 4 {
				c.Stop(c.followers()[0])
				c.pass(4 * testElection) // until it counts no more
			}
			free := c.fillDisk(leader.Name())
			var staged <-chan outcome
			for i := 0; leader.Status().StorageError == "" && i < 100; i++ {
				staged = c.async(leader, &testCommand{filler("x", i)})
				c.pass(10 * time.Millisecond)
			}
			c.pass(20 * testElection)
			require.Equal(t, leader, c.leader())
			_, err := leader.Do(&testCommand{"refused"})
			require.ErrorIs(t, err, ErrNoSpace)
			free()
			c.pass(testElection)
			require.NoError(t, (<-staged).err)
		})
	}
}

// An election timeout that makes no sense ends no server.
func TestTinyElectionTimeout(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		c.leader().SetElectionTimeout(1)
		synctest.Wait()
		c.leader().SetElectionTimeout(testElection)
		c.put("x")
	})
}

// Where all disks are slow, as on storage that all share, some disk is always ahead.
// A leader that hands over to it for that loses what works: elections need votes that
// are durable in time.
func TestFault017_StaysWhereAllDisksAreSlow(t *testing.T) {
	length := time.Duration(max(60, scale(200))) * testElection
	for _, syncs := range []float64{1, 1.5, 3} { // in election timeouts
		for _, pause := range []time.Duration{testElection / 10, 15 * testElection} {
			t.Run(fmt.Sprint(syncs, pause), func(t *testing.T) {
				inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
					for i, name := range c.Names() {
						dice := rand.New(rand.NewPCG(uint64(i), 7))
						c.node(name).disk.Load().SetFault(func(op vfs.Op) error {
							if op.Kind == vfs.OpSync {
								<-time.After(time.Duration((syncs + 0.6*dice.Float64() - 0.3) * float64(testElection)))
							}
							return nil
						})
					}
					leader, term, done := c.leader(), c.leader().Term(), 0
					for began := time.Now(); time.Since(began) < length; c.pass(pause) {
						_, err := leader.Do(&testCommand{fmt.Sprint(done)})
						require.NoError(t, err)
						done++
					}
					require.Equal(t, leader, c.leader())
					require.Equal(t, term, leader.Term())
					for _, name := range c.Names() {
						c.node(name).disk.Load().SetFault(nil)
					}
					c.pass(4 * testElection) // a sync under way outlives a stop
					c.converge()
				})
			})
		}
	}
}

// smallState is a journal whose state does not grow with it.
type smallState struct{ *journal }

// Save is StateMachine's.
func (smallState) Save() ([]byte, error) { return []byte("small"), nil }

// A snapshot may take the space that the log needs next, and would give back more
// than that: it does not wait for what waits for space.
func TestFault099_SnapshotGivesTheSpaceBack(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint(late), func(t *testing.T) {
			options := ClusterOptions{Options: []Option{WithMaxSegmentBytes(64 << 10)}}
			inCluster(t, 1, options, func(c *clusterTest) {
				c.machine = func(j *journal) StateMachine { return smallState{j} }
				require.NoError(t, c.Bootstrap(c.ctx))
				s := c.leader()
				for i := range 300 {
					c.put(filler("x", i))
				}
				require.NoError(t, s.TakeSnapshot())
				for i := range 300 {
					c.put(filler("y", i))
				}
				disk := c.node(s.Name()).disk.Load()
				disk.SetQuota(&vfs.Quota{Bytes: disk.Used() + 100<<10})
				taken := make(chan error, 1)
				take := func() {
					// An attempt of the log writer takes all the space for a moment.
					err := s.TakeSnapshot()
					for ; errors.Is(err, syscall.ENOSPC); err = s.TakeSnapshot() {
						c.pass(7 * time.Millisecond)
					}
					taken <- err
				}
				if late {
					go take()
				}
				last := c.async(s, &testCommand{strings.Repeat("z", 300<<10)})
				if !late {
					c.pass(testElection)
					require.NotEmpty(t, s.Status().StorageError)
					go take()
				}
				c.within(10*testElection, "the snapshot", func() bool { return s.Status().StorageError == "" && len(taken) == 1 })
				require.NoError(t, <-taken)
				require.NoError(t, (<-last).err)
				require.Greater(t, s.Status().FirstIndex, uint64(300))
			})
		})
	}
}
