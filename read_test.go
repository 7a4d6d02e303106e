package raft

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// everywhere are the levels that need no leader's word here and now.
var everywhere = map[string]ReadLevel{"linearizable": Linearizable, "zero": {}, "bounded": BoundedStaleness(0), "far": BoundedStaleness(time.Nanosecond)}

// Any server serves reads of any level; linearizable ones see what was acknowledged.
func TestReadOnEveryServer(t *testing.T) {
	for form, options := range transports {
		if form == "bare" {
			continue // it cannot ask the leader
		}
		t.Run(form, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				for i := range 20 {
					value := fmt.Sprint("x", i)
					c.put(value)
					for name, s := range c.Servers() {
						for what, level := range everywhere {
							got := <-c.asyncRead(s, level)
							require.NoError(c.t, got.err, "%s at %s", what, name)
							require.Equal(c.t, value, got.value, "%s at %s", what, name)
						}
					}
				}
			})
		})
	}
}

// Without the ability to ask the leader, who does not lead says so at once.
func TestReadWithATransporterThatCannotAsk(t *testing.T) {
	inRunningCluster(t, 3, transports["bare"], func(c *clusterTest) {
		c.put("x")
		c.converge()
		for _, name := range c.followers() {
			require.Equal(c.t, NotLeaderError, (<-c.asyncRead(c.Server(name), Linearizable)).err)
			require.Equal(c.t, "x", (<-c.asyncRead(c.Server(name), Stale)).value)
		}
		require.Equal(c.t, "x", (<-c.asyncRead(c.leader(), Linearizable)).value)
	})
}

// A token of a write makes any server show it, as soon as it has it.
func TestReadYourWrites(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.put("old")
		c.converge()
		behind := c.followers()[0]
		c.Isolate(behind)
		c.put("new")
		token, err := c.leader().ReadIndex(c.ctx, Stale)
		require.NoError(c.t, err)
		require.GreaterOrEqual(c.t, token.Index, c.leader().CommitIndex())

		read := c.asyncRead(c.Server(behind), AtLeast(token))
		require.Equal(c.t, "old", (<-c.asyncRead(c.Server(behind), Stale)).value, "stale, under that name")
		require.Equal(c.t, "old", (<-c.asyncRead(c.Server(behind), AtLeast(Token{}))).value)
		c.pass(10 * testElection)
		require.Empty(c.t, read)
		bounded, cancel := context.WithTimeout(c.ctx, testElection)
		_, err = c.Server(behind).ReadIndex(bounded, AtLeast(token))
		cancel()
		require.ErrorIs(c.t, err, CommandTimeoutError)
		require.ErrorIs(c.t, err, context.DeadlineExceeded)
		c.Heal()
		require.Equal(c.t, "new", (<-read).value)
	})
}

// What a server was told within the bound it need not ask again; what is older it must.
func TestBoundedStaleness(t *testing.T) {
	const bound = 3 * testElection
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.put("old")
		for _, s := range c.Servers() {
			require.Equal(c.t, "old", (<-c.asyncRead(s, Linearizable)).value)
		}
		behind := c.followers()[0]
		c.Isolate(behind)
		c.put("new")
		c.pass(bound / 2)
		require.Equal(c.t, "old", (<-c.asyncRead(c.Server(behind), BoundedStaleness(bound))).value, "no older than it may be")
		c.pass(bound)
		require.Equal(c.t, ErrNoLeader, (<-c.asyncRead(c.Server(behind), BoundedStaleness(bound))).err)
		c.Heal()
		c.converge()
		require.Equal(c.t, "new", (<-c.asyncRead(c.Server(behind), BoundedStaleness(bound))).value)
	})
}

// Reads that wait share rounds of heartbeats: a thousand cost no more than a few.
func TestReadsShareRounds(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
				c.Delay(time.Millisecond, 2*time.Millisecond)
				c.put("x")
				s := c.leader()
				if who == "follower" {
					s = c.Server(c.followers()[0])
				}
				synctest.Wait()
				last, sent := c.leader().Status().LastIndex, c.Network().Stats().Sent
				var reads []<-chan outcome
				for range 1000 {
					reads = append(reads, c.asyncRead(s, Linearizable))
				}
				for _, read := range reads {
					got := <-read
					require.NoError(c.t, got.err)
					require.Less(c.t, got.took, 20*time.Millisecond)
				}
				require.Less(c.t, c.Network().Stats().Sent-sent, uint64(40))
				require.Equal(c.t, last, c.leader().Status().LastIndex, "no entry was needed")
			})
		})
	}
}

// No round begins for a server that does not answer: it would be sent one after the other.
func TestReadsDoNotFloodWhoIsSilent(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.put("x")
		silent, leader := c.followers()[0], c.leader()
		c.Network().Clog(silent, leader.Name())
		before := c.Network().Stats().Sent
		for range 500 {
			require.Equal(c.t, "x", (<-c.asyncRead(leader, Linearizable)).value)
		}
		// Each read takes one heartbeat to the other follower, and its answer.
		require.Less(c.t, c.Network().Stats().Sent-before, uint64(1100))
	})
}

// While somebody looks, nothing is applied, and two may look at once; then it is
// applied.
func TestReadHoldsOffApply(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		c.put("old")
		leave, inside := make(chan struct{}), atomic.Int32{}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				err := c.leader().Read(c.ctx, Stale, func(machine StateMachine) error {
					inside.Add(1)
					<-leave
					require.Equal(c.t, "old", machine.(*journal).last())
					return nil
				})
				require.NoError(c.t, err)
			})
			synctest.Wait()
		}
		require.EqualValues(c.t, 3, inside.Load(), "they wait for each other")
		write := c.async(c.leader(), &testCommand{"new"})
		c.pass(testElection)
		require.Empty(c.t, write)
		late := c.asyncRead(c.leader(), Stale)
		synctest.Wait()
		require.Empty(c.t, late, "it would hold off what has waited for longer")
		close(leave)
		require.NoError(c.t, (<-write).err)
		require.NoError(c.t, (<-late).err)
		all.Wait()
	})
}

// concurrentJournal may be read while it applies.
type concurrentJournal struct{ *journal }

// ReadsConcurrently is ConcurrentReader's.
func (concurrentJournal) ReadsConcurrently() {}

func TestConcurrentReaderHoldsOffNothing(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		c.machine = func(j *journal) StateMachine { return concurrentJournal{j} }
		require.NoError(c.t, c.Bootstrap(c.ctx))
		require.NoError(c.t, c.WaitForConverged(c.ctx))
		err := c.leader().Read(c.ctx, Linearizable, func(StateMachine) error {
			c.put("new")
			return nil
		})
		require.NoError(c.t, err)
	})
}

// What f returns, or panics with, is the caller's, and Apply goes on.
func TestReadEndsAsItsFunctionDoes(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		own := errors.New("own")
		require.Equal(c.t, own, c.leader().Read(c.ctx, Linearizable, func(StateMachine) error { return own }))
		value, err := Read(c.ctx, c.leader(), Stale, func(StateMachine) (int, error) { return 7, own })
		require.Equal(c.t, own, err)
		require.Zero(c.t, value)
		require.PanicsWithValue(c.t, "own", func() {
			_ = c.leader().Read(c.ctx, Linearizable, func(StateMachine) error { panic("own") })
		})
		c.put("x")
	})
}

// Calls that cannot be answered say why, at once.
func TestReadRefuses(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		s, err := NewServer("n1", t.TempDir(), c.Network().Transporter("n1"), nil, nil, "")
		require.NoError(c.t, err)
		read := func(ctx context.Context) error {
			_, err := s.ReadIndex(ctx, Stale)
			return err
		}
		require.Equal(c.t, StopError, read(c.ctx))
		var inside error
		c.during = func(ctx Context, _ string) {
			_, inside = ctx.Server().ReadIndex(c.ctx, Stale)
		}
		require.NoError(c.t, c.Bootstrap(c.ctx))
		c.put("x")
		require.Equal(c.t, ErrReentrant, inside)
		ended, cancel := context.WithCancel(c.ctx)
		cancel()
		_, err = c.leader().ReadIndex(ended, Linearizable)
		require.ErrorIs(c.t, err, context.Canceled)
		require.ErrorIs(c.t, err, CommandTimeoutError)
		require.Nil(c.t, s.RequestReadIndex(nil))
		require.Nil(c.t, s.RequestReadIndex(&ReadIndexRequest{}))
	})
}

// However a read waits, Stop ends it.
func TestStopEndsReads(t *testing.T) {
	for form, options := range transports {
		t.Run(form, func(t *testing.T) {
			inRunningCluster(t, 3, options, func(c *clusterTest) {
				c.put("x")
				c.converge()
				leader := c.leader()
				c.Partition([]string{"s1"}, []string{"s2"}, []string{"s3"})
				reads := make(map[string]<-chan outcome)
				for name, s := range c.Servers() {
					if s == leader || form != "bare" {
						reads[name+" linearizable"] = c.asyncRead(s, Linearizable)
					}
					reads[name+" token"] = c.asyncRead(s, AtLeast(Token{1000}))
				}
				synctest.Wait()
				for name, s := range c.Servers() {
					s.Stop()
					for what, read := range reads {
						if what[:2] == name {
							require.Equal(c.t, StopError, (<-read).err, what)
						}
					}
				}
			})
		})
	}
}

// Apply that halts may have stopped half way: nobody sees what it left.
func TestNobodySeesWhatAHaltLeft(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		c.during = func(_ Context, value string) {
			if value == "bad" {
				panic("bad")
			}
		}
		require.NoError(c.t, c.Bootstrap(c.ctx))
		require.NoError(c.t, c.WaitForConverged(c.ctx))
		s := c.leader()
		waiting := c.asyncRead(s, AtLeast(Token{1000}))
		synctest.Wait()
		_, err := s.DoContext(c.ctx, &testCommand{"bad"})
		require.Error(c.t, err)
		require.ErrorIs(c.t, (<-waiting).err, ErrHalted)
		for _, level := range []ReadLevel{Stale, AtLeast(Token{})} {
			require.ErrorIs(c.t, (<-c.asyncRead(s, level)).err, ErrHalted)
		}
	})
}

// Too many reads that wait are refused, and those who gave up count no more.
func TestReadsThatWaitAreBounded(t *testing.T) {
	inRunningCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		s := c.leader()
		bounded, cancel := context.WithCancel(c.ctx)
		for round := range 3 {
			var waiting sync.WaitGroup
			for range maxReads {
				waiting.Go(func() { _, _ = s.ReadIndex(bounded, AtLeast(Token{1000})) })
			}
			synctest.Wait()
			_, err := s.ReadIndex(c.ctx, Stale)
			require.Equal(c.t, ErrOverloaded, err, "round %d", round)
			cancel()
			waiting.Wait()
			bounded, cancel = context.WithCancel(c.ctx)
			require.NoError(c.t, (<-c.asyncRead(s, Linearizable)).err)
		}
		cancel()
		synctest.Wait()
		held := len(s.(*server).lifecycle.run.Load().applier.looking.waiting)
		require.LessOrEqual(c.t, held, 2*maxReads+64)
	})
}

// The next run takes the state machine back to where it begins: who reads it now is
// waited for, a ConcurrentReader's readers too.
func TestStopWaitsForReaders(t *testing.T) {
	for name, around := range map[string]func(j *journal) StateMachine{
		"alone":  func(j *journal) StateMachine { return j },
		"beside": func(j *journal) StateMachine { return concurrentJournal{j} },
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
				c.machine = around
				require.NoError(c.t, c.Bootstrap(c.ctx))
				require.NoError(c.t, c.WaitForConverged(c.ctx))
				s, leave := c.leader(), make(chan struct{})
				read := make(chan error, 1)
				go func() {
					read <- s.Read(c.ctx, Stale, func(StateMachine) error {
						<-leave
						return nil
					})
				}()
				synctest.Wait()
				begun := time.Now()
				s.Stop()
				require.Equal(c.t, 2*testElection, time.Since(begun))
				require.ErrorIs(c.t, s.Start(), ErrStillRunning)
				close(leave)
				require.NoError(c.t, <-read)
				synctest.Wait()
				require.NoError(c.t, s.Start())
			})
		})
	}
}

// A read whose caller has gone while it waited to be taken takes no wake-up with it.
func TestReadAfterOneThatGaveUp(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{ElectionTimeout: time.Hour, HeartbeatInterval: 10 * time.Minute}, func(c *clusterTest) {
		s := c.leader()
		for range 100 {
			ctx, cancel := context.WithCancel(c.ctx)
			var waiting sync.WaitGroup
			waiting.Go(func() { _, _ = s.ReadIndex(ctx, Linearizable) })
			cancel()
			begun := time.Now()
			_, err := s.ReadIndex(c.ctx, Linearizable)
			require.NoError(c.t, err)
			require.Less(c.t, time.Since(begun), time.Second)
			waiting.Wait()
		}
	})
}

// Reads that asked a leader that is gone ask the next one as soon as there is one.
func TestReadsAskTheNextLeader(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.put("x")
		c.converge()
		old, left := c.leader(), c.followers()
		c.Network().Clog(old.Name(), left[0])
		c.Network().Clog(old.Name(), left[1])
		var reads []<-chan outcome
		for range 5 {
			for _, name := range left {
				reads = append(reads, c.asyncRead(c.Server(name), Linearizable))
			}
			c.pass(time.Millisecond)
		}
		c.Crash(old.Name())
		next, err := c.WaitForLeader(c.ctx)
		require.NoError(c.t, err)
		synctest.Wait()
		for _, read := range reads {
			select {
			case got := <-read:
				require.NoError(c.t, got.err)
				require.Equal(c.t, "x", got.value)
			default:
				require.Fail(c.t, "it still waits for the old leader, or for the next heartbeat", next)
			}
		}
	})
}

// Who is no member is told nothing; it would never get there.
func TestReadOfAServerThatWasRemoved(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.converge()
		gone := c.followers()[0]
		c.Network().Block(c.leader().Name(), gone)
		leader := c.leader()
		require.NoError(c.t, leader.RemovePeer(gone))
		answer := leader.RequestReadIndex(&ReadIndexRequest{Name: gone, To: leader.Name(), ClusterID: leader.ClusterID(), Sequence: 7})
		require.False(c.t, answer.Success)
		require.Equal(c.t, refusedRemoved, answer.Refused)
		for _, wrong := range []*ReadIndexRequest{
			{Name: c.followers()[1], To: "somebody", ClusterID: leader.ClusterID()},
			{Name: c.followers()[1], To: leader.Name(), ClusterID: leader.ClusterID() + 1},
			{Name: c.followers()[1], To: leader.Name(), ToStoreID: 1, ClusterID: leader.ClusterID()},
		} {
			answer := leader.RequestReadIndex(wrong)
			require.False(c.t, answer.Success)
			require.NotZero(c.t, answer.Refused)
		}
	})
}

// A server that knows what a read must have seen, and does not get there, says so.
func TestReadBehind(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		hold := make(chan struct{})
		var behind atomic.Value
		c.during = func(ctx Context, _ string) {
			if ctx.Server().Name() == behind.Load() {
				<-hold
			}
		}
		require.NoError(c.t, c.Bootstrap(c.ctx))
		require.NoError(c.t, c.WaitForConverged(c.ctx))
		behind.Store(c.followers()[0])
		c.put("x")
		s := c.Server(c.followers()[0])
		for _, level := range []ReadLevel{Linearizable, BoundedStaleness(time.Hour)} {
			begun := time.Now()
			_, err := s.ReadIndex(c.ctx, level)
			require.Equal(c.t, ErrBehind, err)
			require.Equal(c.t, readTimeouts*testElection, time.Since(begun))
		}
		close(hold)
		_, err := s.ReadIndex(c.ctx, Linearizable)
		require.NoError(c.t, err)
	})
}

// A leader that cannot commit in its term keeps no question longer than its asker waits.
func TestQuestionsAreNotKept(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.converge()
		leader := c.leader()
		run := leader.(*server).lifecycle.run.Load()
		held := func() (n int) {
			done := make(chan struct{})
			run.inbox.put(control(func(l *eventLoop) {
				n = len(l.readers.held)
				close(done)
			}))
			<-done
			return n
		}
		run.inbox.put(control(func(l *eventLoop) { l.office.start = 1 << 40 }))
		for range 40 {
			go leader.RequestReadIndex(&ReadIndexRequest{Name: c.followers()[0], To: leader.Name(), ClusterID: leader.ClusterID(), Sequence: 7})
			c.pass(testElection / 4)
			require.LessOrEqual(c.t, held(), 8)
		}
	})
}
