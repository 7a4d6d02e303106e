package raft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The kinds of soak commands.
const (
	soakPut    = iota // changes the store
	soakRefuse        // changes the store and returns an error
	soakRead          // changes nothing
)

// soakCommand is a client's command: who sent it, the how-manieth of that client
// it is, and a value that follows from the two.
type soakCommand struct {
	client, kind uint64
	serial       uint64
	value        []byte
}

// CommandName is Command's.
func (c *soakCommand) CommandName() string { return "soak" }

// soakValue is the value of a client's command: mostly short, now and then large
// enough to be kept in one piece, or to fill a whole message.
func soakValue(client, serial uint64) []byte {
	n := int(serial*7+client*13) % 100
	switch {
	case serial%997 == 500:
		n += 1 << 20
	case serial%101 == 50:
		n += ownChunkBytes
	case serial%10 == 5:
		n += 1000
	}
	value := make([]byte, n)
	const period = 256 // of i*31 as a byte
	for i := range value[:min(n, period)] {
		value[i] = byte(uint64(i)*31 + client + serial)
	}
	for have := period; have < n; have *= 2 {
		copy(value[have:], value[:have])
	}
	return value
}

// Encode is CommandEncoder's.
func (c *soakCommand) Encode(w io.Writer) error {
	b := binary.AppendUvarint(nil, c.client)
	b = binary.AppendUvarint(b, c.serial)
	b = binary.AppendUvarint(b, c.kind)
	_, err := w.Write(append(b, c.value...))
	return err
}

// Decode is CommandEncoder's.
func (c *soakCommand) Decode(r io.Reader) error {
	b, err := io.ReadAll(r)
	for _, field := range []*uint64{&c.client, &c.serial, &c.kind} {
		value, n := binary.Uvarint(b)
		if err != nil || n <= 0 {
			return errors.Join(err, errors.New("not a soak command"))
		}
		*field, b = value, b[n:]
	}
	c.value = b
	return nil
}

// Apply is CommandApply's.
func (c *soakCommand) Apply(ctx Context) (interface{}, error) {
	return ctx.Server().Context().(*soakStore).apply(ctx, c)
}

// soakReceipt is what Apply returns: where the command is, and what the store
// was right after it.
type soakReceipt struct {
	index uint64
	count int
	hash  uint64
}

// Error makes a receipt of a soakRefuse an error.
func (r soakReceipt) Error() string { return fmt.Sprintf("refused at %d", r.index) }

// soakApplied is one command in the order in which all servers must apply it.
type soakApplied struct {
	index, term          uint64
	client, serial, kind uint64
	hash                 uint64 // of this command and all before it
}

// soakOracle knows what has been applied anywhere, ever.
type soakOracle struct {
	run     *soakRun
	mu      sync.Mutex
	applied []soakApplied
	told    map[uint64]string // what AddPeer and RemovePeer returned inside Apply, by index
	floor   atomic.Uint64     // the highest index that a client has a receipt for
}

// soakSlowness makes some number of Applies take their time: not all, or a server
// that starts would be at it for hours.
type soakSlowness struct {
	delay atomic.Int64
	left  atomic.Int64
}

func (s *soakSlowness) pass() {
	if s.left.Load() > 0 && s.left.Add(-1) >= 0 {
		<-time.After(time.Duration(s.delay.Load()))
	}
}

// soakStore is the state machine of one server in one life.
type soakStore struct {
	name   string
	oracle *soakOracle
	slow   *soakSlowness

	// Guarded by the oracle's mutex.
	last soakApplied
	pos  int // commands applied
}

// apply checks that this server applies what every other one did.
func (s *soakStore) apply(ctx Context, c *soakCommand) (interface{}, error) {
	s.slow.pass()
	if !bytes.Equal(c.value, soakValue(c.client, c.serial)) {
		s.oracle.run.violated("%s: the value of %d/%d at %d is not what was sent", s.name, c.client, c.serial, ctx.CurrentIndex())
	}
	o := s.oracle
	o.mu.Lock()
	defer o.mu.Unlock()
	e := soakApplied{index: ctx.CurrentIndex(), term: ctx.CurrentTerm(), client: c.client, serial: c.serial, kind: c.kind}
	e.hash = s.last.hash
	for _, v := range [...]uint64{e.index, e.term, e.client, e.serial, e.kind, uint64(len(c.value))} {
		e.hash = (e.hash ^ v) * 0x100000001b3
	}
	switch {
	case e.index <= s.last.index || e.term < s.last.term:
		o.run.violated("%s applied %+v after %+v", s.name, e, s.last)
	case s.pos == len(o.applied):
		o.applied = append(o.applied, e)
	case o.applied[s.pos] != e:
		o.run.violated("%s applied %+v, another server %+v", s.name, e, o.applied[s.pos])
	}
	s.last = e
	s.pos++
	receipt := soakReceipt{e.index, s.pos, e.hash}
	if c.kind == soakRefuse {
		return nil, receipt
	}
	return receipt, nil
}

// soakState is a state as a store saves it: what it is, and bytes that follow
// from that, so many that some states take several pieces.
func soakState(last soakApplied, pos int) []byte {
	b := binary.AppendUvarint(nil, uint64(pos))
	for _, v := range [...]uint64{last.index, last.term, last.client, last.serial, last.kind, last.hash} {
		b = binary.AppendUvarint(b, v)
	}
	n := pos % 1000
	if pos%7 == 3 {
		n += 5 << 19
	}
	b = slices.Grow(b, n)
	block := make([]byte, 0, 4<<10)
	for seed := last.hash; len(block) < cap(block); seed = seed*6364136223846793005 + 1442695040888963407 {
		block = binary.LittleEndian.AppendUint64(block, seed)
	}
	for ; n > 0; n -= len(block) {
		binary.LittleEndian.PutUint64(block, uint64(n)) // no two are equal
		b = append(b, block[:min(n, len(block))]...)
	}
	return b
}

// Save is StateMachine's.
func (s *soakStore) Save() ([]byte, error) {
	s.oracle.mu.Lock()
	last, pos := s.last, s.pos
	s.oracle.mu.Unlock()
	s.oracle.run.saved.Add(1)
	return soakState(last, pos), nil
}

// Recovery is StateMachine's: the state must be one that the servers went through,
// and not behind this one's.
func (s *soakStore) Recovery(state []byte) error {
	rest, fields := state, make([]uint64, 7)
	for i := range fields {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return errors.New("not a state")
		}
		fields[i], rest = v, rest[n:]
	}
	last := soakApplied{fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]}
	pos, o := int(fields[0]), s.oracle
	whole := bytes.Equal(state, soakState(last, pos))
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !whole:
		o.run.violated("%s was given another state than was saved at %d", s.name, last.index)
	case pos < s.pos:
		o.run.violated("%s was taken back from %+v to %+v", s.name, s.last, last)
	case pos > len(o.applied) || pos > 0 && o.applied[pos-1] != last:
		o.run.violated("%s was given the state %d, %+v, which nobody applied", s.name, pos, last)
	}
	s.last, s.pos = last, pos
	o.run.restored.Add(1)
	return nil
}

// reset empties the store of a server that is stopped and will start again.
func (s *soakStore) reset() {
	s.oracle.mu.Lock()
	defer s.oracle.mu.Unlock()
	s.last, s.pos = soakApplied{}, 0
}

// complete reports whether the store holds all that was ever applied.
func (s *soakStore) complete() bool {
	s.oracle.mu.Lock()
	defer s.oracle.mu.Unlock()
	n := len(s.oracle.applied)
	return s.pos == n && (n == 0 || s.last == s.oracle.applied[n-1])
}

// received checks a client's receipt: it belongs to the client's command, and to
// a place behind all that were acknowledged before the command was sent.
func (o *soakOracle) received(c *soakCommand, r soakReceipt, floor uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.count < 1 || r.count > len(o.applied) {
		o.run.violated("%d/%d has receipt %+v of %d commands", c.client, c.serial, r, len(o.applied))
		return
	}
	e := o.applied[r.count-1]
	if e.index != r.index || e.hash != r.hash || e.client != c.client || e.serial != c.serial {
		o.run.violated("%d/%d has receipt %+v, of %+v", c.client, c.serial, r, e)
	}
	if r.index <= floor {
		o.run.violated("%d/%d is at %d, but began after %d was acknowledged", c.client, c.serial, r.index, floor)
	}
	for old := o.floor.Load(); old < r.index && !o.floor.CompareAndSwap(old, r.index); old = o.floor.Load() {
		continue
	}
}

// outcomes of a command.
const (
	soakUnknown = iota
	soakDone
	soakNotApplied
)

// settle checks at the end that each client's history came true.
func (o *soakOracle) settle(clients []*soakClient) {
	o.mu.Lock()
	defer o.mu.Unlock()
	type key struct{ client, serial uint64 }
	places := make(map[key]uint64, len(o.applied))
	for _, e := range o.applied {
		k := key{e.client, e.serial}
		if e.client >= uint64(len(clients)) || e.serial >= uint64(len(clients[e.client].history)) {
			o.run.violated("nobody sent %+v", e)
		}
		if before, twice := places[k]; twice {
			o.run.violated("%d/%d was applied at %d and %d", e.client, e.serial, before, e.index)
		}
		places[k] = e.index
	}
	for _, c := range clients {
		var last uint64
		for serial, sent := range c.history {
			index, there := places[key{c.id, uint64(serial)}]
			switch {
			case sent.outcome == soakDone && index != sent.index:
				o.run.violated("%d/%d was acknowledged at %d and is at %d", c.id, serial, sent.index, index)
			case sent.outcome == soakDone && index <= last:
				o.run.violated("%d/%d is at %d, an earlier one at %d", c.id, serial, index, last)
			case sent.outcome == soakNotApplied && there:
				o.run.violated("%d/%d was said not to be applied and is at %d", c.id, serial, index)
			}
			if sent.outcome == soakDone {
				last = index
			}
		}
	}
}
