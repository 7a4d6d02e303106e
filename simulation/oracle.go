//go:build simulation

package simulation

import (
	"sync"
	"time"
)

// oracle is the cheap check of what clients are told: every value carries who
// sent it and its number, so that a phantom, a loss, a repetition and an answer to
// somebody else show by themselves.
type oracle struct {
	world *world

	mu     sync.Mutex
	order  []applied // what any server has applied
	floor  uint64    // the highest index that a client has a receipt for
	floors []floorAt
}

// applies takes the word of a server that it has applied a command (I4).
func (o *oracle) applies(name string, place int, e applied) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case place == len(o.order)+1:
		o.order = append(o.order, e)
	case place > len(o.order):
		o.world.violated("I4: %s applied %+v as the command %d, of which there are %d", name, e, place, len(o.order))
	case o.order[place-1] != e:
		o.world.violated("I4: %s applied %+v, another server %+v", name, e, o.order[place-1])
	}
}

// restores takes the word of a server that it was given a state.
func (o *oracle) restores(name string, place int, last applied) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if place > len(o.order) || place > 0 && o.order[place-1] != last {
		o.world.violated("I4: %s was given the state %d, %+v, which nobody was in", name, place, last)
	}
}

// last is the command that was applied last, and how many were.
func (o *oracle) last() (e applied, total int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if total = len(o.order); total > 0 {
		e = o.order[total-1]
	}
	return e, total
}

// acknowledged is the floor for a command that begins now.
func (o *oracle) acknowledged() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.floor
}

// received checks a client's receipt: it is for this command, which stands behind
// all that were acknowledged before it was sent.
func (o *oracle) received(c *command, r receipt, floor uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.place < 1 || r.place > len(o.order) {
		o.world.violated("I9: %+v has receipt %+v of %d commands", c.value, r, len(o.order))
		return
	}
	if e := o.order[r.place-1]; e.index != r.index || e.chain != r.chain || e.value != c.value {
		o.world.violated("I9: %+v has receipt %+v, of %+v", c.value, r, e)
	}
	if r.index <= floor {
		o.world.violated("I9: %+v is at %d, but began after %d was acknowledged", c.value, r.index, floor)
	}
	if r.index > o.floor {
		o.floor = r.index
		o.floors = append(o.floors, floorAt{o.world.trace.now(), r.index})
	}
}

// What a client knows of a command.
const (
	unknown = iota
	done
	notApplied
)

// sent is a command and what became of it.
type sent struct {
	kind, key    uint64
	began, ended time.Duration
	outcome      int
	index        uint64
	before       value
}

// settle checks at the end that all that clients were told came true.
func (o *oracle) settle(clients []*client) {
	o.mu.Lock()
	defer o.mu.Unlock()
	places := make(map[value]uint64, len(o.order))
	for _, e := range o.order {
		if e.client > uint64(len(clients)) || e.client == 0 || e.serial > uint64(len(clients[e.client-1].sent)) {
			o.world.violated("I9: nobody sent %+v", e)
		}
		if before, twice := places[e.value]; twice {
			o.world.violated("I4: %+v was applied at %d and %d", e.value, before, e.index)
		}
		places[e.value] = e.index
	}
	for _, c := range clients {
		var last uint64
		for i, s := range c.sent {
			v := value{c.id, uint64(i + 1)}
			index, there := places[v]
			switch {
			case s.outcome == done && index != s.index:
				o.world.violated("I7: %+v was acknowledged at %d and is at %d", v, s.index, index)
			case s.outcome == done && index <= last:
				o.world.violated("I9: %+v is at %d, an earlier one at %d", v, index, last)
			case s.outcome == notApplied && there:
				o.world.violated("I9: %+v was said not to be applied and is at %d", v, index)
			}
			if s.outcome == done {
				last = index
			}
		}
	}
}
