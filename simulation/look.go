//go:build simulation

package simulation

import (
	"context"
	"errors"
	"time"

	"github.com/goraft/raft"
)

// look is a linearizable read without a command: the log has nothing of it.
type look struct {
	key          uint64
	began, ended time.Duration
	seen         value
}

// view is a machine as a read sees it.
type view struct {
	value
	last  applied
	place int
}

// see is what a read does. While it lasts nothing may change.
func (m *machine) see(key uint64, d time.Duration) view {
	first := m.glance(key)
	w := m.node.world
	w.wait(context.Background(), d)
	if second := m.glance(key); first != second {
		w.violated("I9: %s goes on from %+v to %+v while it is read", m.node.name, first, second)
	}
	return first
}

func (m *machine) glance(key uint64) view {
	if m.changing.Load() {
		m.node.world.violated("I9: %s is read while it changes", m.node.name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return view{m.keys[key], m.last, m.place}
}

// level chooses how to read, and tells what the read must have seen.
func (c *client) level() (level raft.ReadLevel, name string, floor uint64) {
	switch n := c.rand.IntN(8); n {
	case 4, 5:
		return raft.AtLeast(raft.Token{Index: c.seen}), readsAtLeast, c.seen
	case 6:
		d := time.Duration(c.rand.Int64N(4 * int64(c.world.plan.election)))
		return raft.BoundedStaleness(d), readsBounded, c.oracle.acknowledgedBefore(c.world.trace.now() - d)
	case 7:
		return raft.Stale, readsStale, 0
	}
	return raft.Linearizable, readsLinearizable, c.oracle.acknowledged()
}

// The kinds of reads, as they are counted.
const (
	readsLinearizable = "reads linearizable"
	readsAtLeast      = "reads at least"
	readsBounded      = "reads bounded"
	readsStale        = "reads stale"
	readsElsewhere    = "reads of a server that does not lead"
)

// look reads at any level.
func (c *client) look(server raft.Server) bool {
	level, name, floor := c.level()
	return c.lookAt(server, level, name, floor)
}

// lookAt reads, and checks what was seen: a state that all servers agree on, and no
// older than the level allows.
func (c *client) lookAt(server raft.Server, level raft.ReadLevel, name string, floor uint64) bool {
	w := c.world
	l := look{key: c.rand.Uint64N(uint64(w.plan.keys)), began: w.trace.now()}
	limit := time.Duration((0.2 + c.rand.ExpFloat64()) * float64(2*w.plan.election))
	inside := time.Duration(c.rand.Int64N(int64(w.plan.heartbeat)/5 + 1))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	v, err := raft.Read(ctx, server, level, func(m raft.StateMachine) (view, error) { return m.(*machine).see(l.key, inside), nil })
	cancel()
	l.ended, l.seen = w.trace.now(), v.value
	if took := l.ended - l.began; took > limit+inside+w.plan.heartbeat+w.longestPause() {
		w.violated("I12: a Read of %v took %v", limit, took)
	}
	w.trace.printf("client %d: %v of key %d on %s: %+v after %d of %d (%v)", c.id, level, l.key, server.Name(), v.value, v.place, v.last.index, err)
	if err != nil {
		c.refused(server, level, err)
		return false
	}
	w.count(name)
	if leader := w.leader(); leader == nil || leader.Name() != server.Name() {
		w.count(readsElsewhere)
	}
	if v.last.index < floor {
		w.violated("I9: %v on %s has seen %d, not %d", level, server.Name(), v.last.index, floor)
	}
	c.oracle.seen(server.Name(), v)
	c.seen = max(c.seen, v.last.index)
	if name == readsLinearizable {
		c.looks = append(c.looks, l)
	}
	return true
}

// refused checks that a read that saw nothing says why.
func (c *client) refused(server raft.Server, level raft.ReadLevel, err error) {
	for _, known := range []error{raft.ErrNoLeader, raft.ErrBehind, raft.StopError, raft.CommandTimeoutError, raft.ErrHalted} {
		if errors.Is(err, known) {
			return
		}
	}
	if err == raft.NotLeaderError && c.world.node(server.Name()).bare {
		return
	}
	c.world.violated("I9: %v on %s: %v", level, server.Name(), err)
}

// seen takes the word of a read: it saw a state that every server is in sometime.
func (o *oracle) seen(name string, v view) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if v.place > len(o.order) || v.place > 0 && o.order[v.place-1] != v.last {
		o.world.violated("I9: a read of %s saw the state %d, %+v, which nobody was in", name, v.place, v.last)
	}
}

// floorAt is when the floor rose, and to what.
type floorAt struct {
	time  time.Duration
	index uint64
}

// acknowledgedBefore is the floor as it was before that time.
func (o *oracle) acknowledgedBefore(t time.Duration) (index uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.floors {
		if f.time < t {
			index = f.index
		}
	}
	return index
}
