//go:build simulation

package simulation

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/goraft/raft"
)

// client sends commands and reads, one after the other, and keeps what it was told.
type client struct {
	world  *world
	oracle *oracle
	id     uint64 // from 1 on
	rand   *rand.Rand
	sent   []sent
	looks  []look
	seen   uint64 // the last entry that it knows of: it never goes back behind it
}

func newClient(w *world, o *oracle, id uint64) *client {
	return &client{world: w, oracle: o, id: id, rand: dice(w.plan.seed, "client", int(id))}
}

// work sends commands until the context ends.
func (c *client) work(ctx context.Context) {
	for ctx.Err() == nil {
		c.world.wait(ctx, time.Duration(c.rand.ExpFloat64()*float64(c.world.plan.pause))+1)
		switch server := c.pick(); {
		case server == nil || ctx.Err() != nil:
		case c.rand.IntN(3) == 0:
			c.look(server)
		case c.rand.IntN(12) == 0:
			c.verify(server)
		default:
			c.send(server)
		}
	}
}

// pick chooses a server: mostly the leader, else any.
func (c *client) pick() raft.Server {
	names := c.world.cluster.Names()
	name := names[c.rand.IntN(len(names))]
	if c.rand.IntN(10) > 0 {
		if leader := c.world.leader(); leader != nil {
			return leader
		}
	}
	return c.world.cluster.Server(name)
}

// send sends the next command by one of the ways there are.
func (c *client) send(server raft.Server) (ok bool) {
	w := c.world
	cmd := &command{value: value{c.id, uint64(len(c.sent) + 1)}, kind: put, key: c.rand.Uint64N(uint64(w.plan.keys))}
	switch n := c.rand.IntN(10); {
	case n < 4:
		cmd.kind = get
	case n == 4:
		cmd.kind = refuse
	}
	cmd.filler = filling(cmd.value, w.plan.value)
	floor := c.oracle.acknowledged()
	s := sent{kind: cmd.kind, key: cmd.key, began: w.trace.now()}
	var v interface{}
	var err error
	var limit time.Duration
	if c.rand.IntN(3) == 0 {
		v, err = server.Do(cmd)
	} else {
		limit = time.Duration((0.2 + c.rand.ExpFloat64()) * float64(2*w.plan.election))
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		v, err = server.DoContext(ctx, cmd)
		cancel()
	}
	s.ended = w.trace.now()
	if took := s.ended - s.began; limit > 0 && took > limit+w.plan.heartbeat+w.longestPause() {
		w.violated("I12: a Do of %v took %v", limit, took)
	}
	c.judge(cmd, v, err, floor, &s)
	c.sent = append(c.sent, s)
	w.trace.printf("client %d: %d of %d, key %d on %s: outcome %d at %d, before %v (%v)", c.id, cmd.kind, cmd.serial, cmd.key, server.Name(), s.outcome, s.index, s.before, err)
	return s.outcome == done
}

// judge says what the answer to a command means, and whether it may be so.
func (c *client) judge(cmd *command, v interface{}, err error, floor uint64, s *sent) {
	r, ok := v.(receipt)
	refused := errors.As(err, &r)
	switch {
	case (refused || ok) && refused != (cmd.kind == refuse):
		c.world.violated("I9: %+v of kind %d returned %v and %v", cmd.value, cmd.kind, v, err)
	case refused || ok && err == nil:
		c.oracle.received(cmd, r, floor)
		s.outcome, s.index, s.before = done, r.index, r.before
		c.seen = max(c.seen, r.index)
	case err == nil:
		c.world.violated("I9: %+v returned %v without an error", cmd.value, v)
	case certain(err):
		s.outcome = notApplied
	}
	var failed *raft.CommandError
	if errors.As(err, &failed) && errors.Is(err, raft.ErrNotApplied) == errors.Is(err, raft.ErrOutcomeUnknown) {
		c.world.violated("I9: %+v: %v says two things or none of the outcome", cmd.value, err)
	}
}

// certain reports whether an error says that the command was not applied and
// never will be; Do's errors are goraft's, which do not wrap the outcome.
func certain(err error) bool {
	var failed *raft.CommandError
	if errors.As(err, &failed) {
		return errors.Is(err, raft.ErrNotApplied)
	}
	for _, known := range []error{raft.NotLeaderError, raft.ErrLost, raft.ErrOverloaded, raft.ErrNoSpace} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
