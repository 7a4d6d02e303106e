package raft

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// soakClient sends commands, one after the other, and keeps what it was told.
type soakClient struct {
	run     *soakRun
	id      uint64
	rand    *rand.Rand
	history []soakSent // by serial
	longest time.Duration
	told    map[string]int // counts of outcomes by cause
}

// soakSent is what a client knows of one of its commands.
type soakSent struct {
	outcome int
	index   uint64
}

func newSoakClient(r *soakRun, id uint64) *soakClient {
	return &soakClient{run: r, id: id, rand: r.dice("client", id), told: map[string]int{}}
}

// work sends commands until the context ends.
func (c *soakClient) work(ctx context.Context, pause time.Duration) {
	for r := c.run; ctx.Err() == nil; {
		r.wait(ctx, time.Duration(c.rand.Int64N(int64(2*pause))))
		if server := c.pick(); server != nil {
			c.send(server)
		}
	}
}

// pick chooses a server: mostly the leader, else any.
func (c *soakClient) pick() Server {
	names := c.run.fleet.names()
	name := names[c.rand.IntN(len(names))]
	if c.rand.IntN(20) > 0 {
		if leader := c.run.leader(); leader != nil {
			return leader
		}
	}
	return c.run.fleet.server(name)
}

// send sends the next command by one of the ways there are.
func (c *soakClient) send(server Server) bool {
	command := &soakCommand{client: c.id, serial: uint64(len(c.history))}
	switch n := c.rand.IntN(20); {
	case n < 3:
		command.kind = soakRead
	case n == 3:
		command.kind = soakRefuse
	}
	command.value = soakValue(command.client, command.serial)
	floor, began := c.run.oracle.floor.Load(), time.Now()
	var value interface{}
	var err error
	switch c.rand.IntN(3) {
	case 0:
		value, err = server.Do(command)
	case 1:
		value, err = server.DoContext(context.Background(), command)
	default:
		limit := time.Duration(c.rand.ExpFloat64() * float64(2*c.run.election))
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		value, err = server.DoContext(ctx, command)
		cancel()
	}
	c.longest = max(c.longest, time.Since(began))
	sent := c.judge(command, value, err, floor)
	c.history = append(c.history, sent)
	return sent.outcome == soakDone
}

// judge says what the answer to a command means, and whether it may be so.
func (c *soakClient) judge(command *soakCommand, value interface{}, err error, floor uint64) (sent soakSent) {
	receipt, ok := value.(soakReceipt)
	refused := errors.As(err, &receipt)
	switch {
	case refused != (command.kind == soakRefuse) && (refused || ok):
		c.run.violated("%d/%d of kind %d returned %v and %v", c.id, command.serial, command.kind, value, err)
	case refused || ok && err == nil:
		c.run.oracle.received(command, receipt, floor)
		c.told["applied"]++
		return soakSent{soakDone, receipt.index}
	case err == nil:
		c.run.violated("%d/%d returned %v without an error", c.id, command.serial, value)
		return soakSent{soakDone, 0}
	}
	var failed *CommandError
	if errors.As(err, &failed) && errors.Is(err, ErrNotApplied) == errors.Is(err, ErrOutcomeUnknown) {
		c.run.violated("%d/%d: %v says two things or none of the outcome", c.id, command.serial, err)
	}
	cause := err
	if failed != nil {
		cause = failed.Cause
	}
	bare := failed == nil
	switch {
	case errors.Is(err, ErrNotApplied), bare && (errors.Is(err, NotLeaderError) || errors.Is(err, ErrLost) || errors.Is(err, ErrOverloaded) || errors.Is(err, ErrNoSpace)):
		sent.outcome = soakNotApplied
		c.told["not applied, "+soakCause(cause)]++
	default:
		c.told["unknown, "+soakCause(cause)]++
	}
	return sent
}

// soakCause is the kind of an error, in a word or two.
func soakCause(err error) string {
	for _, known := range []struct {
		err  error
		name string
	}{
		{NotLeaderError, "not the leader"}, {StopError, "stopped"}, {ErrLost, "lost"},
		{ErrLeadershipLost, "leadership lost"}, {CommandTimeoutError, "timeout"}, {ErrOverloaded, "overloaded"}, {ErrNoSpace, "no space"},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	return err.Error()
}
