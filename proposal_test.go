package raft

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// What Do says of each fate that does not need a second server (row 134 and the
// table in the package documentation).
func TestProposalOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), nil)
		ctx := context.Background()
		do := func(ctx context.Context, command Command) error {
			_, err := s.DoContext(ctx, command)
			return err
		}
		is := func(err error, all ...error) {
			t.Helper()
			for _, one := range all {
				require.ErrorIs(t, err, one)
			}
			require.NotEqual(t, errors.Is(err, ErrNotApplied), errors.Is(err, ErrOutcomeUnknown))
		}
		is(do(ctx, &tick{}), StopError, ErrNotApplied)
		require.NoError(t, s.Start())
		is(do(ctx, &tick{}), NotLeaderError, ErrNotApplied)
		_, err := s.Do(&tick{})
		require.True(t, err == NotLeaderError)
		require.NoError(t, do(ctx, &DefaultJoinCommand{Name: "a"}))
		is(do(ctx, &stranger{}), ErrUnregisteredCommand, ErrNotApplied)
		is(do(ctx, nil), ErrUnregisteredCommand, ErrNotApplied)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		is(do(ended, &tick{}), CommandTimeoutError, context.Canceled, ErrNotApplied)

		// Without a quorum: a second voter that is silent.
		s.control(func(l *eventLoop) {
			l.configure(l.raft.configuration().with(member{name: "b", voter: true}), "", "")
		})
		late, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		is(do(late, &tick{}), CommandTimeoutError, context.DeadlineExceeded, ErrOutcomeUnknown)
		began := time.Now()
		is(do(ctx, &tick{}), ErrLeadershipLost, ErrOutcomeUnknown)
		require.LessOrEqual(t, time.Since(began), 5*s.ElectionTimeout())
		s.Stop()
		is(do(ctx, &tick{}), StopError, ErrNotApplied)
	})
}

// stranger is registered nowhere.
type stranger struct{}

func (*stranger) CommandName() string { return "stranger" }

// Row 138: callers that give up at random leave nothing behind, and nobody gets
// another's result.
func TestProposalCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(t, vfs.NewMem(), func(_ Context, n int) interface{} {
			<-time.After(time.Duration(n%3) * time.Millisecond)
			return n
		})
		begun(t, s)
		var calls tasks
		for n := range 300 {
			calls.Go("caller", func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*time.Millisecond)
				defer cancel()
				for m := range 5 {
					value, err := s.DoContext(ctx, &tick{N: 10*n + m})
					if err == nil && value != 10*n+m {
						t.Errorf("%d got the result %v", 10*n+m, value)
					}
				}
			})
		}
		calls.Wait()
		_, err := s.Do(&tick{N: 3})
		require.NoError(t, err)
		settled := make(chan [3]int, 1)
		s.control(func(l *eventLoop) { settled <- [3]int{len(l.pending), len(l.orphans), l.pendingBytes} })
		require.Equal(t, [3]int{}, <-settled)
		s.Stop()
	})
}

// Row 136: the command's value is that of the call.
func TestProposalKeepsValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []int
		s := newLone(t, vfs.NewMem(), func(_ Context, n int) interface{} { seen = append(seen, n); return nil })
		begun(t, s)
		command := &tick{}
		for n := range 50 {
			command.N = n
			ctx, cancel := context.WithCancel(context.Background())
			if n%2 == 0 {
				cancel()
			}
			s.DoContext(ctx, command)
			cancel()
			command.N = -1
		}
		require.NotContains(t, seen, -1)
		require.Len(t, seen, 25)
		s.Stop()
	})
}
