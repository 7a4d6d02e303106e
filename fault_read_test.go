package raft

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Two ways to read what is not stale: a command that goes through the log as the
// others do, and Read. The rows of reads that hold for both are here.

// reading reads what was put last from a server, without waiting for it.
type reading func(c *clusterTest, s Server) <-chan outcome

var readings = map[string]reading{
	"command": func(c *clusterTest, s Server) <-chan outcome { return c.async(s, &readCommand{}) },
	"read":    func(c *clusterTest, s Server) <-chan outcome { return c.asyncRead(s, Linearizable) },
}

// asyncRead has a server read what was put last, without waiting for it.
func (c *clusterTest) asyncRead(s Server, level ReadLevel) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		start := time.Now()
		value, err := Read(c.ctx, s, level, func(machine StateMachine) (interface{}, error) {
			return machine.(*journal).last(), nil
		})
		done <- outcome{value, err, time.Since(start)}
	}()
	return done
}

// inEachReading runs f with each way to read, over each kind of transporter.
func inEachReading(t *testing.T, n int, f func(c *clusterTest, read reading)) {
	t.Helper()
	for way, read := range readings {
		for form, options := range transports {
			t.Run(way+" over "+form, func(t *testing.T) {
				inReadingCluster(t, n, options, func(c *clusterTest) { f(c, read) })
			})
		}
	}
}

// readCommand returns the last value that was put into the journal.
type readCommand struct{}

// CommandName is Command's.
func (c *readCommand) CommandName() string { return "test:read" }

// Apply is Command's.
func (c *readCommand) Apply(ctx Context) (interface{}, error) {
	return ctx.Server().Context().(*journal).last(), nil
}

// last is the value that was put last, or "".
func (j *journal) last() string {
	values := j.values()
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// inReadingCluster is inRunningCluster with servers that know readCommand.
func inReadingCluster(t *testing.T, n int, options ClusterOptions, f func(c *clusterTest)) {
	t.Helper()
	inCluster(t, n, options, func(c *clusterTest) {
		for _, name := range c.Names() {
			require.NoError(c.t, c.registry(name).Register(&readCommand{}))
		}
		require.NoError(c.t, c.Bootstrap(c.ctx))
		require.NoError(c.t, c.WaitForConverged(c.ctx))
		f(c)
	})
}

// requireFresh checks that a read gave what was put last, or an error that says what
// came of it; it tells whether it was answered.
func requireFresh(c *clusterTest, got outcome, want string) bool {
	c.t.Helper()
	if got.err == nil {
		require.Equal(c.t, want, got.value)
		return true
	}
	requireTyped(c, got.err)
	return false
}

// requireTyped checks that an error is one of Read, or says either that a command was
// not applied or that nobody knows.
func requireTyped(c *clusterTest, err error) {
	c.t.Helper()
	for _, ofRead := range []error{ErrNoLeader, ErrBehind, StopError, NotLeaderError} {
		if err == ofRead {
			return
		}
	}
	var typed *CommandError
	require.ErrorAs(c.t, err, &typed)
	require.NotEqual(c.t, errors.Is(err, ErrNotApplied), errors.Is(err, ErrOutcomeUnknown), err)
}

// Row 23: leader after leader hands over while a client writes, and all servers are
// asked all the while, the one on its way out before the others. No answer is older
// than what was acknowledged when it was asked for.
func TestFault023_ReadsDuringATransfer(t *testing.T) {
	for way, read := range readings {
		t.Run(way, func(t *testing.T) { testReadsDuringATransfer(t, read) })
	}
}

func testReadsDuringATransfer(t *testing.T, read reading) {
	inReadingCluster(t, 3, ClusterOptions{}, func(c *clusterTest) {
		c.Delay(0, 10*time.Millisecond)
		var acknowledged atomic.Int64
		c.put("0")
		end, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for n := int64(1); ; n++ {
				select {
				case <-end:
					return
				default:
				}
				// What is not answered may still come, but no later than what follows it.
				if _, err := c.Do(c.ctx, &testCommand{fmt.Sprint(n)}); err == nil {
					acknowledged.Store(n)
				}
			}
		}()
		type asked struct {
			floor int64
			of    string
			read  <-chan outcome
		}
		var reads []asked
		for range 20 {
			old := c.leader()
			term := old.Term()
			c.abdicates(old)
			for until := time.Now().Add(testElection); time.Now().Before(until); c.pass(time.Millisecond) {
				for _, s := range append([]Server{old}, slices.Collect(maps.Values(c.Servers()))...) {
					reads = append(reads, asked{acknowledged.Load(), s.Name(), read(c, s)})
				}
			}
			c.within(10*testElection, "the next leader", func() bool { return c.Leader() != nil && c.Leader().Term() > term })
		}
		close(end)
		<-ended
		last, answered := acknowledged.Load(), 0
		for i, r := range reads {
			got := <-r.read
			if got.err != nil {
				requireTyped(c, got.err)
				continue
			}
			answered++
			n, err := strconv.ParseInt(got.value.(string), 10, 64)
			require.NoError(c.t, err)
			require.GreaterOrEqual(c.t, n, r.floor, "read %d, of %s", i, r.of)
		}
		require.Greater(c.t, last, int64(100))
		require.Greater(c.t, answered, 100)
		c.converge()
	})
}

// Row 58: the old leader committed x and told nobody of that. The new one does not know
// that x is committed before an entry of its own is: until then it answers no read, and
// says that it is not ready.
func TestFault058_ReadBeforeTheNewLeaderCommits(t *testing.T) {
	inEachReading(t, 3, func(c *clusterTest, read reading) {
		c.puts("x", 1, 5)
		c.converge()
		old := c.leader().Name()
		index := c.leader().Status().LastIndex + 1
		c.Network().Intercept(func(m MemoryMessage) bool {
			request, ok := m.Message.(*AppendEntriesRequest)
			return !ok || request.CommitIndex < index
		})
		c.put("x6")
		c.Crash(old)
		c.Network().Intercept(func(m MemoryMessage) bool {
			_, ok := m.Message.(*AppendEntriesRequest)
			return !ok
		})
		var leader Server
		c.within(10*testElection, "a leader", func() bool {
			for _, s := range c.Servers() {
				if s.State() == Leader {
					leader = s
				}
			}
			return leader != nil
		})
		answer := read(c, leader)
		c.pass(testElection / 2)
		require.Empty(c.t, answer, "it cannot know")
		require.Less(c.t, leader.CommitIndex(), index)
		require.Equal(c.t, "x5", c.journal(leader.Name()).last(), "what it has itself is old")
		require.Equal(c.t, Leader, leader.State())
		require.False(c.t, leader.Status().Ready)
		c.Network().Intercept(nil)
		if !requireFresh(c, <-answer, "x6") {
			require.True(c.t, requireFresh(c, <-read(c, c.leader()), "x6"))
		}
	})
}

// Row 60: reads that come while a leader is elected, and as its term begins, are all
// answered, or told that they were not.
func TestFault060_ReadsAsATermBegins(t *testing.T) {
	inEachReading(t, 3, func(c *clusterTest, read reading) {
		for round := range 5 {
			value := fmt.Sprint("x", round)
			c.put(value)
			old := c.leader()
			term := old.Term()
			c.Crash(old.Name())
			var reads []<-chan outcome
			ask := func(s Server) { reads = append(reads, read(c, s)) }
			c.within(10*testElection, "a leader", func() bool {
				for _, s := range c.Servers() {
					ask(s)
				}
				return c.Leader() != nil && c.Leader().Status().Term > term
			})
			leader := c.leader()
			for range 100 {
				ask(leader)
				c.pass(DefaultHeartbeatInterval / 100)
			}
			answered := 0
			for _, answer := range reads {
				got := <-answer
				if requireFresh(c, got, value) {
					answered++
				}
				require.Less(c.t, got.took, 5*testElection)
			}
			require.GreaterOrEqual(c.t, answered, 100)
			require.NoError(c.t, c.Start(old.Name()))
			c.converge()
		}
	})
}

// Row 61: a leader is cut off with its clients, and the others write on. What is read
// from it is never what was.
func TestFault061_ReadFromALeaderThatIsCutOff(t *testing.T) {
	inEachReading(t, 3, func(c *clusterTest, read reading) {
		for round := range 5 {
			c.put("x1")
			c.converge()
			old := c.leader()
			c.Isolate(old.Name())
			var reads []<-chan outcome
			c.within(10*testElection, "another leader", func() bool {
				reads = append(reads, read(c, old))
				return c.Leader() != nil && c.Leader() != old
			})
			c.put("x2")
			for range 100 {
				reads = append(reads, read(c, old))
				c.pass(time.Millisecond)
			}
			require.Equal(c.t, "x1", c.journal(old.Name()).last(), "what it has itself is old")
			for i, answer := range reads {
				got := <-answer
				require.False(c.t, requireFresh(c, got, "x2"), "round %d, read %d", round, i)
				require.Less(c.t, got.took, 5*testElection)
			}
			c.Heal()
			c.converge()
			require.True(c.t, requireFresh(c, <-read(c, c.leader()), "x2"))
		}
	})
}

// Row 65: what a lone server acknowledged is read after a crash, though the disk says
// less of what is committed. It is ready no earlier.
func TestFault065_ReadAfterACrashOfOne(t *testing.T) {
	for way, read := range readings {
		t.Run(way, func(t *testing.T) { testReadAfterACrashOfOne(t, read) })
	}
}

func testReadAfterACrashOfOne(t *testing.T, read reading) {
	less := 0
	for seed := range uint64(20) {
		inReadingCluster(t, 1, ClusterOptions{Seed: seed}, func(c *clusterTest) {
			for round := range 3 {
				c.puts("x", 1, 3)
				value, index := fmt.Sprint("round ", round), c.leader().Status().LastIndex+1
				c.put(value)
				c.Crash("s1")
				c.options.Configure = func(_ string, s Server) {
					require.NoError(c.t, s.Init())
					if s.CommitIndex() < index {
						less++
					}
				}
				require.NoError(c.t, c.Start("s1"))
				s := c.Server("s1")
				answer := read(c, s)
				c.within(5*testElection, "it to be ready", func() bool {
					if status := s.Status(); !status.Ready {
						return false
					}
					require.Equal(c.t, value, c.journal("s1").last())
					return true
				})
				if !requireFresh(c, <-answer, value) {
					require.True(c.t, requireFresh(c, <-read(c, s), value))
				}
			}
		})
	}
	require.Positive(t, less, "each crash left the whole commit index")
}
