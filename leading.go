package raft

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"
)

// Leadership tells who leads, and moves the office.
type Leadership interface {
	// TransferLeadership has the named voter lead in this server's place, or with "" the
	// one that is most up to date (dissertation §3.10). The leader takes no commands
	// meanwhile, which wait, brings the other up to date, and tells it to stand for
	// election. It returns nil when this server follows the new leader, or is that
	// itself already. If that has not happened within an election timeout, the other is
	// no voter that answers, or says that it does not stand, the error wraps ErrTransfer
	// and this server goes on serving; the other may still be elected. NotLeaderError
	// says that another server leads, or none. The end of the context ends the wait, not
	// the transfer.
	TransferLeadership(ctx context.Context, name string) error
	// StepDown is TransferLeadership to the server that is most up to date, after which
	// this one does not stand for election for as long as the cooldown, or until it
	// starts again. If nobody takes the office it stays, and there is no cooldown.
	StepDown(ctx context.Context, cooldown time.Duration) error
	// VerifyLeader returns nil when a majority has confirmed, after the call, that this
	// server leads in that term, and the server knows all that was committed before. The
	// term is a fencing token: no two servers lead in one, and later leaders have later
	// ones. What is done with it may still be done after another leader was elected, so
	// whoever it is done to must refuse terms that are older than one it knows.
	VerifyLeader(ctx context.Context) (term uint64, err error)
	// LeaderChanges yields what this server knows of the leader, now and after each
	// change, until the context ends or the loop is left. A loop that is slow misses
	// what was over before it came back, never the latest, and holds up nobody. It goes
	// on over Stop and Start.
	LeaderChanges(ctx context.Context) iter.Seq[LeaderChange]
}

// LeaderChange is who leads, as far as a server knows.
type LeaderChange struct {
	Term   uint64 `json:"term"`
	Leader string `json:"leader"` // "" if the server knows of none
	// Ready says that it is this server, and that it has applied an entry of its term:
	// what leaders before it acknowledged is in its state.
	Ready bool `json:"ready"`
}

// ErrTransfer says that the office was not transferred. Errors that wrap it say why.
var ErrTransfer = errors.New("raft: leadership was not transferred")

func noTransfer(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTransfer, fmt.Sprintf(format, args...))
}

func (s *server) TransferLeadership(ctx context.Context, name string) error {
	return s.handOver(ctx, &handing{to: name, done: make(chan error, 1)})
}

func (s *server) StepDown(ctx context.Context, cooldown time.Duration) error {
	return s.handOver(ctx, &handing{cooldown: cooldown, done: make(chan error, 1)})
}

// handOver has the event loop give up the office, and waits until another server leads.
func (s *server) handOver(ctx context.Context, h *handing) error {
	name := h.to // for then it is the loop's
	if err := s.ask(ctx, func(l *eventLoop) { l.handTo(h) }, h.done); err != nil || name == s.name {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, readTimeouts*s.settings.electionTimeout())
	defer cancel()
	for now := range s.LeaderChanges(patience) {
		switch {
		case now.Leader == "":
		case now.Leader == name || name == "" && now.Leader != s.name:
			return nil
		default:
			return noTransfer("%s leads", now.Leader)
		}
	}
	if ctx.Err() != nil {
		return readTimeout(ctx)
	}
	return noTransfer("it was given up, and nobody leads yet")
}

func (s *server) VerifyLeader(ctx context.Context) (term uint64, err error) {
	done, verified := make(chan error, 1), make(chan uint64, 1)
	err = s.ask(ctx, func(l *eventLoop) {
		switch {
		case !l.leads():
			done <- NotLeaderError
			return
		case len(l.readers.held) >= maxReads:
			done <- ErrOverloaded
			return
		}
		term := l.office.term
		l.readers.held = append(l.readers.held, &read{since: time.Now(), remote: func(_ uint64, ok bool) {
			if !ok {
				done <- NotLeaderError
				return
			}
			verified <- term
			done <- nil
		}})
	}, done)
	if err != nil {
		return 0, err
	}
	return <-verified, nil
}

// ask gives the event loop something to do, and waits until that is done.
func (s *server) ask(ctx context.Context, c control, done chan error) error {
	r := s.lifecycle.run.Load()
	switch {
	case ctx.Err() != nil:
		return readTimeout(ctx)
	case r == nil || s.lifecycle.state.Load() != phaseStarted || !r.inbox.put(c):
		return StopError
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return readTimeout(ctx)
	case <-r.ended:
		return StopError
	}
}

func (s *server) LeaderChanges(ctx context.Context) iter.Seq[LeaderChange] {
	return func(yield func(LeaderChange) bool) {
		var last LeaderChange
		for first := true; ctx.Err() == nil; first = false {
			changed := s.leaders.next() // before the look, so that no change is missed
			now := s.now().leader()
			if first || now != last {
				if last = now; !yield(now) {
					return
				}
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// leader is who leads.
func (p *published) leader() LeaderChange {
	return LeaderChange{Term: p.status.Term, Leader: p.status.Leader, Ready: p.status.Ready}
}

// leaders tells those who wait that the leader may have changed.
type leaders struct{ changed atomic.Pointer[chan struct{}] }

// next returns a channel that is closed at the next change.
func (s *leaders) next() <-chan struct{} {
	for {
		if c := s.changed.Load(); c != nil {
			return *c
		}
		c := make(chan struct{})
		s.changed.CompareAndSwap(nil, &c)
	}
}

// change wakes up those who wait, if anybody does.
func (s *leaders) change() {
	if c := s.changed.Swap(nil); c != nil {
		close(*c)
	}
}
