package raft

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// lifecycle is which run a server is in. Changes take turns by a token in a
// channel rather than a mutex, because Init reads the disk and applies.
type lifecycle struct {
	turn  chan struct{} // holds a token while Init, Start, Stop or LoadSnapshot is at work
	run   atomic.Pointer[run]
	state atomic.Int32 // of the run: its phase
	// loading is the goroutine that calls Recovery for LoadSnapshot, with the turn.
	loading callerID
}

// The phases of a run.
const (
	phaseNone = iota
	phaseInitialized
	phaseStarted
	phaseStopped
)

func newLifecycle() *lifecycle { return &lifecycle{turn: make(chan struct{}, 1)} }

func (c *lifecycle) lock()   { c.turn <- struct{}{} }
func (c *lifecycle) unlock() { <-c.turn }

// lockBefore is lock, but gives up at the deadline; it reports whether it has
// the turn.
func (c *lifecycle) lockBefore(deadline time.Time) bool {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case c.turn <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// applies reports whether the caller is inside Apply, or inside the state machine
// that Init or LoadSnapshot waits for.
func (s *server) applies() bool {
	r := s.lifecycle.run.Load()
	return r != nil && r.applier.inside.isCaller() || s.lifecycle.loading.isCaller()
}

func (s *server) Init() error {
	if s.applies() {
		return ErrReentrant
	}
	s.lifecycle.lock()
	defer s.lifecycle.unlock()
	return s.initialize()
}

func (s *server) initialize() error {
	switch s.lifecycle.state.Load() {
	case phaseStarted:
		// A server that stopped by itself, or from inside Apply, may start again.
		if s.Running() {
			return fmt.Errorf("raft.Server: Server already running[%s]", s.State())
		}
		if err := s.lifecycle.run.Load().endWithin(stopTimeouts * s.settings.electionTimeout()); err != nil {
			return err
		}
		s.lifecycle.state.Store(phaseStopped) // nobody takes the next run for one that has started
	case phaseInitialized:
		return nil
	case phaseStopped:
		if err := s.lifecycle.run.Load().endWithin(0); err != nil {
			return err
		}
	}
	r := &run{
		server: s, name: s.name, connectionString: s.connectionString,
		options: &s.options, settings: &s.settings, events: &s.eventDispatcher,
		log:   s.options.logger.With("server", s.name),
		inbox: newQueue[any](), proposals: newQueue[*proposal](), reads: newQueue[*read](), orders: newQueue[*order](),
		ended: make(chan struct{}), yielding: s.options.yielding,
		tasks: tasks{server: s.name}, applies: tasks{server: s.name}, hearers: tasks{server: s.name}, callers: tasks{server: s.name},
	}
	r.inbox.yielding, r.proposals.yielding, r.orders.yielding = r.of("inbox"), r.of("proposals"), r.of("orders")
	r.reads.yielding = r.of("reads")
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.applier = &applier{
		home: r, server: s, registry: s.options.registry, events: r.events, ranges: newQueue[committed](), callers: newQueue[*proposal](),
		reads: newQueue[*read](), left: make(chan struct{}, 1),
		ownTerm: func(term uint64) { r.inbox.put(control(func(l *eventLoop) { l.appliedOwn(term) })) },
		halted: func(halt *HaltError) {
			var err error = halt
			r.err.CompareAndSwap(nil, &err)
			r.log.Error("raft: apply halts", "index", halt.Index, "command", halt.Command, "cause", halt.Cause)
			r.inbox.put(control(func(l *eventLoop) { l.halt(halt) }))
		},
		intended: func(intents []intent) { r.inbox.put(control(func(l *eventLoop) { l.intents = intents })) },
	}
	r.applier.ranges.yielding, r.applier.reads.yielding = r.of("ranges"), r.of("looks")
	r.applier.saved.Store(new(savedState))
	replica, err := r.open(s.LogPath())
	if err != nil {
		r.cancel()
		if r.store != nil {
			err = errors.Join(err, r.store.Close())
		}
		return err
	}
	loop := r.newLoop(replica)
	loop.raft.role = Initialized
	loop.publish()
	r.loop = loop
	s.lifecycle.run.Store(r)
	s.lifecycle.state.Store(phaseInitialized)
	err = r.replay(replica)
	r.log.Debug("raft: initialized", "path", s.path, "term", replica.term, "last", replica.log.end, "commit", replica.commitIndex)
	if err == nil && r.ctx.Err() != nil {
		err = StopError
	}
	if err != nil {
		r.abandon()
		s.lifecycle.state.Store(phaseStopped)
	}
	return err
}

// calledBack reports whether the caller is inside Apply or a listener of the
// server: a goroutine that Init, Start and Stop may wait for.
func (s *server) calledBack(r *run) bool {
	return r != nil && (r.applier.inside.isCaller() || s.inside.isCaller())
}

func (s *server) Start() error {
	if s.applies() {
		return ErrReentrant
	}
	s.lifecycle.lock()
	defer s.lifecycle.unlock()
	if err := s.initialize(); err != nil {
		return err
	}
	r := s.lifecycle.run.Load()
	s.begin(&r.hearers)
	l := r.loop
	r.loop = nil // it is its goroutine's from here on
	l.raft.role = Follower
	l.publish()
	s.lifecycle.state.Store(phaseStarted)
	r.yield("start")
	r.start(l)
	return nil
}

// prepared has the control carried out by a server that is not started yet,
// which it initializes if need be; of one that is started it returns the run,
// for the control to be put there.
func (s *server) prepared(c control) (*run, error) {
	if s.lifecycle.state.Load() == phaseStarted {
		return s.lifecycle.run.Load(), nil
	}
	s.lifecycle.lock()
	defer s.lifecycle.unlock()
	switch s.lifecycle.state.Load() {
	case phaseStarted:
		return s.lifecycle.run.Load(), nil
	case phaseStopped:
		return nil, StopError
	}
	if err := s.initialize(); err != nil {
		return nil, err
	}
	l := s.lifecycle.run.Load().loop
	c(l)
	l.flush()
	return nil, nil
}

// stopTimeouts is how many election timeouts Stop waits for what the application
// or the disk blocks.
const stopTimeouts = 2

func (s *server) Stop() {
	deadline := time.Now().Add(stopTimeouts * s.settings.electionTimeout())
	// The run is told before the turn is taken, so that a Stop from inside Apply
	// ends even while another one waits for that Apply, and Init stops replaying.
	if r := s.lifecycle.run.Load(); r != nil {
		switch s.lifecycle.state.Load() {
		case phaseInitialized:
			r.cancel()
			r.applier.ranges.close()
			if r.applier.inside.isCaller() {
				return // Init, which called, gives up
			}
		case phaseStarted:
			r.cancel()
			r.yield("stop")
			if s.calledBack(r) {
				<-r.ended
				return
			}
		}
	}
	if !s.lifecycle.lockBefore(deadline) {
		s.options.logger.Error("raft: stopped while something else is at work", "server", s.name)
		return // an Init finds that its run was cancelled
	}
	defer s.lifecycle.unlock()
	r := s.lifecycle.run.Load()
	switch s.lifecycle.state.Load() {
	case phaseStarted:
		r.cancel()
		if err := r.endWithin(time.Until(deadline)); err != nil {
			r.log.Error("raft: stopped with something left", "error", err)
		}
	case phaseInitialized:
		r.abandon()
	default:
		return
	}
	s.lifecycle.state.Store(phaseStopped)
}

// abandon ends a run that was never started.
func (r *run) abandon() {
	r.cancel()
	if err := r.store.Close(); err != nil {
		r.log.Error("raft: closing the log", "error", err)
	}
	r.loop.raft.role = Stopped
	r.loop.publish()
	r.inbox.close()
	r.proposals.close()
	r.reads.close()
	close(r.ended)
}

func (s *server) Running() bool {
	switch s.State() {
	case Stopped, Initialized:
		return false
	}
	return true
}

func (s *server) Err() error {
	if r := s.lifecycle.run.Load(); r != nil {
		if err := r.err.Load(); err != nil {
			return *err
		}
		if r.published.Load().removed {
			return ErrRemoved
		}
	}
	return nil
}

// stopped returns a channel that is closed when the run that the server is in
// ends; it is closed when the server is in none.
func (s *server) stopped() <-chan struct{} {
	if r := s.lifecycle.run.Load(); r != nil && s.lifecycle.state.Load() == phaseStarted {
		return r.ctx.Done()
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

// FlushCommitIndex returns when a restart would begin with this very commit
// index, or when that cannot be had.
func (s *server) FlushCommitIndex() {
	r := s.lifecycle.run.Load()
	// Before Start nothing is known that the disk does not tell already.
	if r != nil && s.lifecycle.state.Load() == phaseStarted {
		r.flush()
	}
}

// flush makes what the event loop knows to be committed durable as such, with all
// entries up to there, and reports whether it is.
func (r *run) flush() bool {
	return r.await(func(l *eventLoop, done func()) { l.flushCommitIndex(done) })
}

// await has the event loop begin something, and reports whether it was done before
// the server stopped.
func (r *run) await(begin func(l *eventLoop, done func())) bool {
	reached := make(chan struct{})
	done := sync.OnceFunc(func() { close(reached) })
	if !r.inbox.put(control(func(l *eventLoop) { begin(l, done) })) {
		return false
	}
	select {
	case <-reached:
		return true
	case <-r.ended:
		return false
	}
}

// flushUpTo is flush for a snapshot up to index. It does not wait for space where the
// log is durable that far: the snapshot itself says that this much is committed, and
// what it covers may be all the space that there is.
func (r *run) flushUpTo(index uint64) bool {
	return r.await(func(l *eventLoop, done func()) {
		l.flushCommitIndex(done)
		l.covering = covering{index, done}
	})
}

// covering is a snapshot that is finished and waits for the log up to index.
type covering struct {
	index uint64
	done  func()
}

// cover lets the snapshot go on that waits for no more than space.
func (l *eventLoop) cover() {
	if c := l.covering; c.done != nil && l.full != nil && c.index <= l.durable {
		l.covering = covering{}
		c.done()
	}
}

// flushCommitIndex wants the commit index durable and exact.
func (l *eventLoop) flushCommitIndex(done func()) {
	l.want().flush = true
	l.balloted = l.ordered + 1
	l.promises.ballots = append(l.promises.ballots, promise{own: true, needs: l.balloted, deliver: done})
}

// appliedOwn takes the applier's word that the first entry of a term is applied:
// its leader may be trusted to know all that was committed before.
func (l *eventLoop) appliedOwn(term uint64) {
	if l.office != nil && l.office.term == term {
		l.office.ready = true
	}
}

// halt takes the applier's word that it cannot go on. A leader that does not
// apply is of no use: it steps down, and gives others the time to follow it. One
// that cannot read its log must not vote or store either.
func (l *eventLoop) halt(halt *HaltError) {
	if errors.Is(halt.Cause, errUnreadable) {
		l.fail(halt)
		return
	}
	l.events.dispatch(FailureEventType, error(halt), nil)
	l.halted = true
	l.rearm = true
	if l.raft.role == Leader && l.office != nil {
		l.abdicate()
	}
}

// redial makes senders of a leader begin anew with another transporter.
func (l *eventLoop) redial() {
	if l.office == nil {
		return
	}
	for name, s := range l.office.senders {
		s.cancel()
		delete(l.office.senders, name)
	}
}
