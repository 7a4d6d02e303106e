package raft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

func TestFault130_StopByMany(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		for range 20 {
			leader := c.leader()
			waiting := c.async(leader, &testCommand{"x"})
			var stopping sync.WaitGroup
			for range 100 {
				stopping.Go(func() {
					leader.Stop()
					if leader.Running() {
						c.t.Error("running after Stop")
					}
				})
			}
			stopping.Wait()
			<-waiting
			require.NoError(t, c.Restart(leader.Name()))
			c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
			c.converge()
		}
	})
}

func TestFault130_StopBeforeStart(t *testing.T) {
	inCluster(t, 1, ClusterOptions{}, func(c *clusterTest) {
		c.options.Configure = func(_ string, server Server) {
			server.Stop()
			server.Stop()
			require.NoError(t, server.Init())
			server.Stop()
			server.Stop()
			require.Equal(t, Stopped, server.State())
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		c.put("x")
	})
}

func TestFault130_StopInsideApply(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		var once sync.Once
		c.during = func(ctx Context, value string) {
			if value == "stop" && ctx.Server().State() == Leader {
				once.Do(func() {
					start := time.Now()
					ctx.Server().Stop()
					if took := time.Since(start); took > 2*testElection {
						c.t.Errorf("Stop took %v", took)
					}
				})
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader := c.leader()
		got := <-c.async(leader, &testCommand{"stop"})
		if got.err != nil {
			requireUnknown(t, got.err)
		}
		c.pass(time.Second)
		require.False(t, leader.Running())
		require.NoError(t, c.Restart(leader.Name()))
		c.put("after")
		c.converge()
	})
}

func TestFault130_StopInsideListener(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		server := c.Server(c.followers()[0])
		stopped := make(chan time.Duration, 10)
		server.AddEventListener(CommitEventType, func(e Event) {
			start := time.Now()
			e.Source().(Server).Stop()
			stopped <- time.Since(start)
		})
		c.put("x")
		require.LessOrEqual(t, <-stopped, 2*testElection)
		require.False(t, server.Running())
		require.NoError(t, c.Restart(server.Name()))
		c.put("y")
		c.converge()
	})
}

func TestFault131_StopThenStartKeepsTheLog(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.puts("x", 1, 10)
		c.converge()
		for _, name := range c.Names() {
			server := c.Server(name)
			before := server.Status()
			server.Stop()
			c.journal(name).forget()
			require.NoError(t, server.Start())
			after := server.Status()
			require.Equal(t, before.LastIndex, after.LastIndex)
			require.Equal(t, before.Term, after.Term)
			require.Equal(t, before.VotedFor, after.VotedFor)
			require.False(t, server.IsLogEmpty())
			resp := server.RequestVote(&RequestVoteRequest{Term: after.Term + 5, CandidateName: c.Names()[0], LastLogIndex: 0})
			require.NotNil(t, resp)
			require.False(t, resp.VoteGranted, "a candidate without a log")
			c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
		}
		c.put("y")
		c.converge()
	})
}

func TestFault132_DoEndsWithoutQuorum(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		leader := c.leader()
		c.Isolate(leader.Name())
		ctx, cancel := context.WithTimeout(c.ctx, testElection/2)
		defer cancel()
		start := time.Now()
		_, err := leader.DoContext(ctx, &testCommand{"with a deadline"})
		requireUnknown(t, err)
		require.ErrorIs(t, err, CommandTimeoutError)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, testElection/2, time.Since(start))

		start = time.Now()
		ended := make(chan error, 1)
		go func() {
			_, err := leader.Do(&testCommand{"without one"})
			ended <- err
		}()
		c.within(5*testElection, "the command to end", func() bool { return len(ended) > 0 })
		require.Equal(t, ErrLeadershipLost, <-ended)

		start = time.Now()
		_, err = leader.Do(&testCommand{"on a follower"})
		require.Equal(t, NotLeaderError, err)
		require.Zero(t, time.Since(start))
		c.Heal()
		c.converge()
	})
}

// inBlockedCluster runs f with a leader on whose Apply of one command, two more
// wait, while calls to a follower hang. free ends the Apply.
func inBlockedCluster(t *testing.T, f func(c *clusterTest, leader Server, waiting []<-chan outcome, free func())) {
	inCluster(t, 3, transports["bare"], func(c *clusterTest) {
		block := make(chan struct{})
		free := sync.OnceFunc(func() { close(block) })
		defer free()
		blocked := ""
		c.during = func(ctx Context, value string) {
			if value == "block" && ctx.Server().Name() == blocked {
				<-block
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader := c.leader()
		blocked = leader.Name()
		c.Network().SetCallTimeout(0)
		c.Network().Pause(c.followers()[0])
		var waiting []<-chan outcome
		for _, value := range []string{"block", "behind", "further behind"} {
			waiting = append(waiting, c.async(leader, &testCommand{value}))
			c.pass(testElection)
		}
		f(c, leader, waiting, free)
	})
}

func TestFault133_StopWithEverythingBlocked(t *testing.T) {
	inBlockedCluster(t, func(c *clusterTest, leader Server, waiting []<-chan outcome, free func()) {
		start := time.Now()
		leader.Stop()
		require.LessOrEqual(t, time.Since(start), 2*testElection+time.Millisecond)
		require.ErrorIs(t, leader.Start(), ErrStillRunning)
		free()
		for _, done := range waiting {
			if got := <-done; got.err != nil {
				requireUnknown(t, got.err)
			}
		}
		c.Heal()
		c.pass(time.Second)
		c.journal(leader.Name()).forget()
		require.NoError(t, leader.Start())
		c.put("after")
		c.converge()
	})
}

func TestFault133_CallersEndWithStopWhileApplyBlocks(t *testing.T) {
	inBlockedCluster(t, func(c *clusterTest, leader Server, waiting []<-chan outcome, free func()) {
		leader.Stop()
		ended := 0
		for _, done := range waiting {
			select {
			case got := <-done:
				requireUnknown(t, got.err)
				require.ErrorIs(t, got.err, StopError)
				ended++
			case <-time.After(2 * testElection):
			}
		}
		require.Equal(t, len(waiting), ended, "callers that Stop released")
	})
}

func TestFault133_StopAtEveryStep(t *testing.T) {
	for _, stall := range []bool{false, true} {
		inRunningCluster(t, 3, ClusterOptions{SyncDelay: 100 * time.Microsecond}, func(c *clusterTest) {
			for step := range 40 {
				leader := c.leader()
				release := func() {}
				if stall {
					release = c.stallDisk(leader.Name())
				}
				waiting := c.async(leader, &testCommand{fmt.Sprint("x", step)})
				c.pass(time.Duration(step) * 50 * time.Microsecond)
				start := time.Now()
				leader.Stop()
				require.LessOrEqual(t, time.Since(start), 2*testElection+time.Millisecond)
				got := <-waiting
				release()
				if got.err != nil {
					require.ErrorIs(t, got.err, StopError)
				}
				c.pass(time.Millisecond)
				require.NoError(t, c.Restart(leader.Name()))
				c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
				c.converge()
			}
		})
	}
}

func TestFault134_DoOutsideOfALife(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		refuses := func(server Server) {
			_, err := server.DoContext(c.ctx, &testCommand{"never"})
			requireNotApplied(t, err, StopError)
			_, err = server.Do(&testCommand{"never"})
			require.Equal(t, StopError, err)
		}
		c.options.Configure = func(_ string, server Server) {
			refuses(server)
			require.NoError(t, server.Init())
			refuses(server)
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		c.options.Configure = nil

		results := make(map[string]<-chan outcome)
		for round := range 20 {
			leader := c.leader()
			for i := range 20 {
				value := fmt.Sprint(round, "-", i)
				results[value] = c.async(leader, &testCommand{value})
				if i == round {
					c.pass(time.Duration(rand.New(rand.NewPCG(1, uint64(round))).Int64N(int64(time.Millisecond))))
					go leader.Stop()
				}
			}
			synctest.Wait()
			c.within(testElection, "the leader to stop", func() bool { return !leader.Running() })
			refuses(leader)
			require.NoError(t, c.Restart(leader.Name()))
			c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
		}
		c.converge()
		applied := c.journal("s1").values()
		told := map[string]int{}
		for value, result := range results {
			got := <-result
			switch {
			case got.err == nil:
				require.Contains(t, applied, value)
				told["applied"]++
			case errors.Is(got.err, ErrNotApplied):
				require.NotContains(t, applied, value)
				told["not applied"]++
			default:
				requireUnknown(t, got.err)
				told["unknown"]++
			}
		}
		t.Log(told)
		require.NotContains(t, applied, "never")
		require.Len(t, told, 3)
	})
}

var eventTypes = []string{
	StateChangeEventType, LeaderChangeEventType, TermChangeEventType, CommitEventType, AddPeerEventType,
	RemovePeerEventType, HeartbeatIntervalEventType, ElectionTimeoutThresholdEventType, HeartbeatEventType,
}

func TestFault135_ListenersHoldUpNothing(t *testing.T) {
	inCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		over := make(chan struct{})
		var mu sync.Mutex
		heard := make(map[string]string) // the last state that each server told
		c.options.Configure = func(name string, server Server) {
			for _, eventType := range eventTypes {
				server.AddEventListener(eventType, func(e Event) {
					select {
					case <-over:
					case <-time.After(10 * testElection):
						for method, call := range everyMethod(server) {
							if method != "AddEventListener" { // it would listen twice
								call()
							}
						}
					}
					if e.Type() == StateChangeEventType {
						mu.Lock()
						heard[name] = e.Value().(string)
						mu.Unlock()
					}
				})
			}
		}
		require.NoError(t, c.Bootstrap(c.ctx))
		require.NoError(t, c.WaitForConverged(c.ctx))
		leader := c.leader()
		term := leader.Term()
		for i := range 200 {
			start := time.Now()
			c.put(fmt.Sprint("x", i))
			require.Less(t, time.Since(start), DefaultHeartbeatInterval)
		}
		c.pass(100 * testElection)
		require.Equal(t, term, leader.Term())
		require.Equal(t, leader, c.Leader())
		for range 20 { // more events than may wait
			var many []<-chan outcome
			for range maxEvents / 20 {
				many = append(many, c.async(leader, &testCommand{"y"}))
			}
			for _, done := range many {
				require.NoError(t, (<-done).err)
			}
		}
		require.NotZero(t, leader.Status().EventsDropped)
		old := c.leader()
		c.Isolate(old.Name())
		c.within(10*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != old })
		c.Heal()
		close(over)
		require.NoError(t, c.WaitForConverged(c.ctx))
		c.within(time.Minute, "the last states to be told", func() bool {
			mu.Lock()
			defer mu.Unlock()
			for name, server := range c.Servers() {
				if heard[name] != server.State() {
					return false
				}
			}
			return true
		})
	})
}

// bytesCommand shares its bytes with its caller.
type bytesCommand struct{ Bytes []byte }

// CommandName is Command's.
func (c *bytesCommand) CommandName() string { return "test:bytes" }

// Apply puts the bytes into the journal and then writes to them.
func (c *bytesCommand) Apply(ctx Context) (interface{}, error) {
	ctx.Server().Context().(*journal).put(journalEntry{ctx.CurrentIndex(), ctx.CurrentTerm(), string(c.Bytes)})
	for i := range c.Bytes {
		c.Bytes[i] = 'A'
	}
	return nil, nil
}

func TestFault136_BytesAreThoseAtTheTimeOfDo(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		for _, name := range c.Names() {
			require.NoError(t, c.registry(name).Register(&bytesCommand{}))
		}
		leader := c.leader()
		var want []string
		for i := range 20 {
			value := fmt.Sprintf("%s %d", strings.Repeat("x", i*1000), i)
			want = append(want, value)
			command := &bytesCommand{[]byte(value)}
			done := c.async(leader, command)
			synctest.Wait() // it is under way
			for i := range command.Bytes {
				command.Bytes[i] = 'B'
			}
			require.NoError(t, (<-done).err)
			for i := range command.Bytes {
				command.Bytes[i] = 'C'
			}
		}
		for _, server := range c.Servers() {
			for _, entry := range server.LogEntries() {
				b := entry.Command()
				for i := range b {
					b[i] = 'D'
				}
			}
		}
		c.converge()
		require.Equal(t, want, c.journal(leader.Name()).values())
		require.NoError(t, c.Restart(c.followers()[0]))
		c.Crash(c.followers()[1])
		c.converge()
	})
}

func TestFault137_NonsenseIsRefused(t *testing.T) {
	try := func(name string, options ...Option) error {
		network := NewMemoryNetwork(1)
		defer network.Close()
		options = append(options, withFileSystem(vfs.NewMem()))
		_, err := NewServer(name, "/x", network.Transporter("x"), nil, nil, "", options...)
		return err
	}
	require.NoError(t, try("x"))
	require.Error(t, try(""))
	require.Error(t, try(strings.Repeat("x", maxNameBytes+1)))
	for _, c := range []struct {
		option string
		set    []Option
	}{
		{"ElectionTimeout", []Option{WithElectionTimeout(0)}},
		{"ElectionTimeout", []Option{WithElectionTimeout(-1)}},
		{"HeartbeatInterval", []Option{WithHeartbeatInterval(0)}},
		{"HeartbeatInterval", []Option{WithHeartbeatInterval(-time.Second)}},
		{"HeartbeatInterval", []Option{WithHeartbeatInterval(DefaultElectionTimeout)}},
		{"HeartbeatInterval", []Option{WithElectionTimeout(time.Millisecond)}},
		{"MaxEntryBytes", []Option{WithMaxEntryBytes(0)}},
		{"MaxEntryBytes", []Option{WithMaxEntryBytes(-1)}},
		{"MaxUncommittedBytes", []Option{WithMaxUncommittedBytes(0)}},
		{"MaxUncommittedBytes", []Option{WithMaxUncommittedBytes(DefaultMaxEntryBytes - 1)}},
		{"MaxSegmentBytes", []Option{WithMaxSegmentBytes(0)}},
		{"MaxSegmentBytes", []Option{WithMaxSegmentBytes(-1)}},
		{"Logger", []Option{WithLogger(nil)}},
		{"Registry", []Option{WithRegistry(nil)}},
	} {
		err := try("x", c.set...)
		var refused *OptionError
		if errors.As(err, &refused) {
			require.Equal(t, c.option, refused.Option)
		} else {
			t.Errorf("%s: %v", c.option, err)
		}
	}
}

// TestFault137_AnyOptions holds that a server is refused, or works.
func TestFault137_AnyOptions(t *testing.T) {
	rng := rand.New(rand.NewPCG(137, 0))
	durations := []time.Duration{-1, 0, 1, time.Microsecond, time.Millisecond, 49 * time.Millisecond, 150 * time.Millisecond, time.Hour}
	sizes := []int{-1, 0, 1, 1 << 10, 1 << 16, 1 << 20, 8 << 20, 16 << 20}
	pick := func(n int) int { return rng.IntN(n) }
	made := 0
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			network := NewMemoryNetwork(1)
			defer network.Close()
			options := []Option{
				withFileSystem(vfs.NewMem()), WithLogger(slog.New(slog.DiscardHandler)),
				WithElectionTimeout(durations[pick(len(durations))]), WithHeartbeatInterval(durations[pick(len(durations))]),
				WithMaxEntryBytes(sizes[pick(len(sizes))]), WithMaxUncommittedBytes(sizes[pick(len(sizes))]),
				WithMaxSegmentBytes(int64(sizes[pick(len(sizes))])),
			}
			server, err := NewServer("x", "/x", network.Transporter("x"), nil, nil, "", options...)
			if err != nil {
				var refused *OptionError
				require.ErrorAs(t, err, &refused)
				return
			}
			made++
			require.NoError(t, server.Start())
			_, err = server.Do(&DefaultJoinCommand{Name: "x"})
			require.NoError(t, err)
			_, err = server.Do(NOPCommand{})
			require.NoError(t, err)
			server.Stop()
		})
	}
	require.NotZero(t, made)
}

// pending counts what a server remembers of proposals.
func pending(s Server) int {
	n := make(chan int, 1)
	s.(*server).control(func(l *eventLoop) { n <- len(l.pending) + len(l.orphans) })
	return <-n
}

func TestFault138_CallersThatGiveUpLeaveNothing(t *testing.T) {
	inRunningCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		rng := rand.New(rand.NewPCG(138, 0))
		var callers sync.WaitGroup
		for round := range 20 {
			leader := c.leader()
			for i := range 100 {
				value := fmt.Sprint(round, "-", i)
				wait := time.Duration(rng.Int64N(int64(3 * time.Millisecond)))
				callers.Go(func() {
					ctx, cancel := context.WithTimeout(c.ctx, wait)
					defer cancel()
					result, err := leader.DoContext(ctx, &testCommand{value})
					if err == nil && result != "did "+value {
						c.t.Errorf("%s got %v", value, result)
					}
				})
				if i%10 == 0 {
					c.pass(time.Duration(rng.Int64N(int64(time.Millisecond))))
				}
			}
			if round%5 == 4 {
				c.Isolate(leader.Name())
				c.within(10*testElection, "another leader", func() bool { return c.Leader() != nil && c.Leader() != leader })
				c.Heal()
			}
		}
		callers.Wait()
		c.converge()
		c.pass(5 * testElection)
		for name, s := range c.Servers() {
			require.Zero(t, pending(s), name)
			require.Zero(t, s.Status().UncommittedBytes, name)
		}
	})
}
