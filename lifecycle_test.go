package raft

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// tick is a command whose Apply runs what the test says.
type tick struct{ N int }

func (c *tick) CommandName() string { return "tick" }

func (c *tick) Apply(ctx Context) (interface{}, error) {
	if f, ok := ctx.Server().Context().(func(Context, int) interface{}); ok {
		return f(ctx, c.N), nil
	}
	return c.N, nil
}

// newLone makes server a on the disk, whose commands run apply, which may be nil.
func newLone(t *testing.T, disk *vfs.Mem, apply func(ctx Context, n int) interface{}) *server {
	registry := NewRegistry()
	require.NoError(t, registry.Register(&tick{}))
	var ctx interface{}
	if apply != nil {
		ctx = apply
	}
	made, err := NewServer("a", "/a", deaf{}, nil, ctx, "", withFileSystem(disk), WithRegistry(registry), WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return made.(*server)
}

// begun starts the server and makes it the leader of a cluster of its own.
func begun(t *testing.T, s *server) {
	require.NoError(t, s.Start())
	_, err := s.Do(&DefaultJoinCommand{Name: "a"})
	require.NoError(t, err)
}

// within runs f on a goroutine of its own and returns how long it took; it fails
// the test if f has not returned after an hour of the bubble's time.
func within(t *testing.T, what string, f func()) time.Duration {
	began, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Hour):
		require.Fail(t, what+" does not return")
	}
	return time.Since(began)
}

// Stop makes the commit index exact: Init restores all that was acknowledged.
func TestLifecycleStopKeepsCommitIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s := newLone(t, disk, nil)
		begun(t, s)
		for n := range 3 {
			value, err := s.Do(&tick{N: n})
			require.NoError(t, err)
			require.Equal(t, n, value)
		}
		commit := s.CommitIndex()
		s.Stop()
		var applied []int
		again := newLone(t, disk, func(_ Context, n int) interface{} { applied = append(applied, n); return nil })
		require.NoError(t, again.Init())
		require.Equal(t, commit, again.CommitIndex())
		require.Equal(t, commit, again.Status().LastApplied)
		require.Equal(t, []int{0, 1, 2}, applied)
		again.Stop()
		require.NoError(t, s.Start()) // the first object too
		require.Equal(t, commit, s.CommitIndex())
		s.Stop()
	})
}

// callAll calls every method that may be called at any time; none may block.
func callAll(s Server) {
	s.Init()
	s.Start()
	s.FlushCommitIndex()
	s.AddPeer("b", "")
	s.Do(&tick{})
	s.Do(&DefaultJoinCommand{Name: "b"})
	s.SetElectionTimeout(s.ElectionTimeout())
	s.SetHeartbeatInterval(s.HeartbeatInterval())
	s.SetTransporter(s.Transporter())
	s.AddEventListener(StateChangeEventType, func(Event) {})
	s.AppendEntries(&AppendEntriesRequest{})
	s.RequestVote(&RequestVoteRequest{})
	s.RequestSnapshot(&SnapshotRequest{})
	s.SnapshotRecoveryRequest(&SnapshotRecoveryRequest{})
	s.TimeoutNow(&TimeoutNowRequest{})
	s.Status()
	s.LogEntries()
	s.LastCommandName()
	s.Peers()
}

// Rows 51 and 130, in replay: inside the Apply of Init, too, every method returns.
func TestLifecycleEveryMethodInsideReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s := newLone(t, disk, nil)
		begun(t, s)
		_, err := s.Do(&tick{N: 1})
		require.NoError(t, err)
		s.Stop()

		calls := 0
		again := newLone(t, disk, func(ctx Context, n int) interface{} { calls++; callAll(ctx.Server()); return nil })
		within(t, "Init", func() { err = again.Init() })
		require.NoError(t, err)
		require.Equal(t, 1, calls)
		within(t, "Stop", again.Stop)

		stopping := newLone(t, disk, func(ctx Context, n int) interface{} { ctx.Server().Stop(); return nil })
		within(t, "Start", func() { err = stopping.Start() })
		require.ErrorIs(t, err, StopError)
		require.False(t, stopping.Running())
		within(t, "Stop", stopping.Stop)
	})
}

// Rows 51 and 130, live: inside Apply every method returns, Stop among them, and
// the server can start again afterwards.
func TestLifecycleEveryMethodInsideApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), func(ctx Context, n int) interface{} {
			if n == 1 {
				callAll(ctx.Server())
			} else if n == 2 {
				ctx.Server().Stop()
			}
			return nil
		})
		begun(t, s)
		within(t, "Do", func() { s.Do(&tick{N: 1}) })
		within(t, "Do", func() { s.Do(&tick{N: 2}) })
		require.False(t, s.Running())
		s.Stop()
	})
}

// A Stop from a listener ends the server, and others may start it again.
func TestLifecycleStopFromListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		stop := true
		s.AddEventListener(StateChangeEventType, func(e Event) {
			if e.Value() == Leader && stop {
				stop = false
				s.Stop()
			}
		})
		require.NoError(t, s.Start())
		s.Do(&DefaultJoinCommand{Name: "a"})
		synctest.Wait()
		require.Equal(t, Stopped, s.State())
		require.NoError(t, s.Start())
		require.True(t, s.Running())
		within(t, "Stop", s.Stop)
	})
}

// Calls between Init and Start return.
func TestLifecycleBetweenInitAndStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		require.NoError(t, s.Init())
		within(t, "FlushCommitIndex", s.FlushCommitIndex)
		require.NoError(t, s.AddPeer("b", ""))
		_, err := s.Do(&tick{})
		require.Equal(t, StopError, err)
		require.Nil(t, s.AppendEntries(&AppendEntriesRequest{}))
		within(t, "Stop", s.Stop)
		within(t, "FlushCommitIndex", s.FlushCommitIndex)
		require.Equal(t, StopError, s.AddPeer("c", ""))
		within(t, "Stop", s.Stop)
	})
}

// Row 133: a Stop while Init applies returns in time, blocked Apply or not, and
// Init then fails.
func TestLifecycleStopDuringInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s := newLone(t, disk, nil)
		begun(t, s)
		for n := range 5 {
			s.Do(&tick{N: n})
		}
		s.Stop()
		release := make(chan struct{})
		applied := 0
		again := newLone(t, disk, func(Context, int) interface{} { applied++; <-release; return nil })
		failed := make(chan error, 1)
		go func() { failed <- again.Start() }()
		synctest.Wait()
		took := within(t, "Stop", again.Stop)
		require.LessOrEqual(t, took, 2*again.ElectionTimeout())
		close(release)
		require.ErrorIs(t, <-failed, StopError)
		require.Equal(t, 1, applied, "applied on after Stop")
		require.False(t, again.Running())
		require.NoError(t, again.Start())
		within(t, "Stop", again.Stop)
	})
}

// Rows 132 and 134: callers that wait when the server stops are told that their
// outcome is unknown, and those that come later, that nothing was done. The one
// that is inside Apply keeps Stop no longer than two election timeouts.
func TestLifecycleStopAnswersCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := newLone(t, vfs.NewMem(), func(Context, int) interface{} { <-gate; return "done" })
		begun(t, s)
		var calls sync.WaitGroup
		answers := make(chan error, 20)
		for range 20 {
			calls.Go(func() {
				_, err := s.DoContext(context.Background(), &tick{})
				answers <- err
			})
		}
		synctest.Wait()
		took := within(t, "Stop", s.Stop)
		require.LessOrEqual(t, took, 2*s.ElectionTimeout())
		require.ErrorIs(t, s.Start(), ErrStillRunning)
		close(gate)
		calls.Wait()
		applied := 0
		for range 20 {
			if err := <-answers; err == nil {
				applied++
			} else {
				require.ErrorIs(t, err, StopError)
				require.ErrorIs(t, err, ErrOutcomeUnknown)
			}
		}
		require.LessOrEqual(t, applied, 1)
		_, err := s.DoContext(context.Background(), &tick{})
		require.ErrorIs(t, err, ErrNotApplied)
		require.ErrorIs(t, err, StopError)
		synctest.Wait()
		require.NoError(t, s.Err())
		require.NoError(t, s.Start())
		s.Stop()
	})
}

// Row 130: any number of Stops at once, in any phase.
func TestLifecycleManyStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		many := func() {
			var stops sync.WaitGroup
			for range 50 {
				stops.Go(s.Stop)
			}
			stops.Wait()
		}
		many()
		require.NoError(t, s.Init())
		many()
		begun(t, s)
		many()
		require.Equal(t, Stopped, s.State())
	})
}
