package raft

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

func (s *server) Do(command Command) (interface{}, error) {
	value, err := s.DoContext(context.Background(), command)
	if failed, ok := err.(*CommandError); ok {
		return value, failed.Cause
	}
	return value, err
}

func (s *server) DoContext(ctx context.Context, command Command) (interface{}, error) {
	value, err := s.do(ctx, command)
	if failed, ok := err.(*CommandError); ok && failed.Leader == "" {
		now := s.now()
		failed.Leader = now.status.Leader
		if m := now.configuration.find(failed.Leader); m != nil {
			failed.ConnectionString = m.connectionString
		}
	}
	return value, err
}

// Do replicates the command by the server and returns what its Apply returned,
// as a T. A value of another type is an error, although the command is applied.
func Do[T any](ctx context.Context, server Server, command Command) (T, error) {
	value, err := server.DoContext(ctx, command)
	result, ok := value.(T)
	if err == nil && !ok && value != nil {
		return result, fmt.Errorf("raft: Apply returned %T, not %T", value, result)
	}
	return result, err
}

func (s *server) do(ctx context.Context, command Command) (interface{}, error) {
	r := s.lifecycle.run.Load()
	switch {
	case r != nil && r.applier.inside.isCaller():
		return nil, failure(ErrReentrant, ErrNotApplied)
	case r == nil || s.lifecycle.state.Load() != phaseStarted:
		return nil, failure(StopError, ErrNotApplied)
	case command == nil:
		return nil, &CommandError{Cause: ErrUnregisteredCommand, Outcome: ErrNotApplied, detail: errNoCommand}
	case ctx.Err() != nil:
		return nil, contextFailure(ctx, ErrNotApplied)
	}
	switch c := command.(type) {
	case *DefaultJoinCommand:
		return s.join(ctx, r, c)
	case *DefaultLeaveCommand:
		return s.leave(ctx, r, c)
	case JoinCommand:
		if begins(c, s.name) && s.unbound() {
			if err := s.beginWith(ctx, r, s.connectionString); err != nil {
				return nil, err
			}
		}
	}
	return s.propose(ctx, r, command)
}

// errNoCommand tells of a Do without a command.
var errNoCommand = errors.New("the command is nil")

// propose sends a command through the log.
func (s *server) propose(ctx context.Context, r *run, command Command) (interface{}, error) {
	if name := command.CommandName(); !s.options.registry.registered(name) {
		return nil, &CommandError{Cause: ErrUnregisteredCommand, Outcome: ErrNotApplied, detail: &UnregisteredCommandError{Name: name}}
	}
	switch s.State() { // without the trouble of encoding
	case Leader:
	case Stopped:
		return nil, failure(StopError, ErrNotApplied)
	default:
		return nil, failure(NotLeaderError, ErrNotApplied)
	}
	p := s.proposals.get()
	record, err := encodeCommand(p.record[:0], kindCommand, command)
	if err == nil && len(record) > s.options.maxEntryBytes {
		err = ErrEntryTooLarge
	}
	if err != nil {
		p.release()
		return nil, failure(err, ErrNotApplied)
	}
	p.carry(record)
	size := p.size // for then it is the loop's
	if !r.proposals.put(p) {
		p.release()
		return nil, failure(StopError, ErrNotApplied)
	}
	if r.waiting.Add(int64(size)) >= enoughBytes {
		r.inbox.signal()
	}
	r.yield("proposed")
	return p.wait(ctx)
}

// unbound reports whether this server belongs to no cluster and has no log.
func (s *server) unbound() bool {
	status := s.now().status
	return status.ClusterID == 0 && status.LastIndex == 0
}

// join carries out goraft's join command: on an empty store that names itself it
// begins the cluster, on the leader it adds a member.
func (s *server) join(ctx context.Context, r *run, c *DefaultJoinCommand) (interface{}, error) {
	if err := validMember(c.Name, c.ConnectionString); err != nil {
		return nil, failure(err, ErrNotApplied)
	}
	r.log.Debug("raft: asked for a join", "member", c.Name, "address", c.ConnectionString)
	if c.Name == s.name && s.unbound() {
		if err := s.beginWith(ctx, r, cmp.Or(c.ConnectionString, s.connectionString)); err != nil {
			return nil, err
		}
		return joined, nil
	}
	change := newJoin(c.Name, c.ConnectionString)
	change.asked = true
	if err := s.change(ctx, r, func(l *eventLoop) { l.request(change) }, change.done); err != nil {
		return nil, err
	}
	return joined, nil
}

// leave carries out goraft's leave command. For a stranger it returns, as goraft
// did, its result and an error.
func (s *server) leave(ctx context.Context, r *run, c *DefaultLeaveCommand) (interface{}, error) {
	change := newLeave(c.Name)
	err := s.change(ctx, r, func(l *eventLoop) { l.request(change) }, change.done)
	if err == nil || errors.Is(err, ErrPeerNotFound) {
		return left, err
	}
	return nil, err
}

// beginWith begins a cluster and waits until this server is a member of it for
// certain.
func (s *server) beginWith(ctx context.Context, r *run, connectionString string) error {
	done := make(chan error, 1)
	return s.change(ctx, r, func(l *eventLoop) { l.begin(connectionString, done) }, done)
}

// change hands a change to the event loop and waits for its outcome.
func (s *server) change(ctx context.Context, r *run, c control, done chan error) error {
	if !r.inbox.put(c) {
		return failure(StopError, ErrNotApplied)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return contextFailure(ctx, ErrOutcomeUnknown)
	case <-r.ended:
		select {
		case err := <-done:
			return err
		default:
			return failure(StopError, ErrOutcomeUnknown)
		}
	}
}

// validMember bounds what every configuration entry would carry.
func validMember(name, connectionString string) error {
	switch {
	case name == "" || len(name) > maxNameBytes:
		return &OptionError{"name", "of a member must not be blank or longer than 1 KiB"}
	case len(connectionString) > maxConnectionBytes:
		return &OptionError{"connectionString", "must not be longer than 4 KiB"}
	}
	return nil
}

func (s *server) AddPeer(name string, connectionString string) error {
	if err := validMember(name, connectionString); err != nil {
		return err
	}
	return s.reform(newJoin(name, connectionString))
}

func (s *server) RemovePeer(name string) error { return s.reform(newLeave(name)) }

// reform carries out a change that was not asked for by Do.
func (s *server) reform(c *change) error {
	if r := s.lifecycle.run.Load(); r != nil && r.applier.inside.isCaller() {
		return r.applier.intend(c)
	}
	if s.lifecycle.loading.isCaller() {
		return ErrReentrant
	}
	s.options.logger.Debug("raft: asked to change a member", "server", s.name, "leave", c.leave, "member", c.name, "address", c.connectionString)
	ask := func(l *eventLoop) { l.outside(c) }
	r, err := s.prepared(ask)
	if err != nil {
		return err
	}
	if r != nil {
		err = s.change(context.Background(), r, ask, c.done)
	} else {
		select {
		case err = <-c.done:
		default: // kept, and durable soon after Start
		}
	}
	if failed, ok := err.(*CommandError); ok {
		return failed.Cause
	}
	return err
}
