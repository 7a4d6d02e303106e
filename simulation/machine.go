//go:build simulation

package simulation

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goraft/raft"
)

// The kinds of commands.
const (
	get    = iota // returns the value of a key
	put           // sets it, and returns the one before
	refuse        // sets it, and returns the one before in an error
)

// value is what a key has: who wrote it, and the how-manieth command of that
// client it was. No two are the same.
type value struct{ client, serial uint64 }

// command is a client's. Its filler follows from who sent it.
type command struct {
	value
	kind, key uint64
	filler    []byte
}

// filling is the filler of a command: short for most, sometimes of several pages.
func filling(v value, most int) []byte {
	n := int((v.serial*7+v.client*13)%101) * most / 100
	if v.serial%50 == 25 {
		n += 40 << 10
	}
	filler := make([]byte, n)
	for i := range filler {
		filler[i] = byte(uint64(i)*31 + v.client + v.serial)
	}
	return filler
}

// CommandName is Command's.
func (c *command) CommandName() string { return "simulation" }

// Encode is CommandEncoder's.
func (c *command) Encode(w io.Writer) error {
	var b []byte
	for _, field := range [...]uint64{c.client, c.serial, c.kind, c.key} {
		b = binary.AppendUvarint(b, field)
	}
	_, err := w.Write(append(b, c.filler...))
	return err
}

// Decode is CommandEncoder's.
func (c *command) Decode(r io.Reader) error {
	b, err := io.ReadAll(r)
	for _, field := range []*uint64{&c.client, &c.serial, &c.kind, &c.key} {
		v, n := binary.Uvarint(b)
		if err != nil || n <= 0 {
			return errors.Join(err, errors.New("not a command of the simulation"))
		}
		*field, b = v, b[n:]
	}
	c.filler = b
	return nil
}

// Apply is CommandApply's.
func (c *command) Apply(ctx raft.Context) (interface{}, error) {
	return ctx.Server().Context().(*machine).apply(ctx, c)
}

// receipt is what Apply returns: where the command is, what the state was right
// after it, and what the key had before.
type receipt struct {
	index, chain uint64
	place        int // of all commands
	before       value
}

// Error makes the receipt of a refuse an error.
func (r receipt) Error() string { return "refused" }

// applied is one command in the order in which all servers apply them; chain is
// the hash of it and all before it.
type applied struct {
	index, term uint64
	value
	kind, chain uint64
}

// machine is the state machine of one server in one life.
type machine struct {
	node   *node
	oracle *oracle
	// applying is taken while an Apply is under way: one of a life that has ended
	// may be held up.
	applying chan struct{}
	changing atomic.Bool // a command or a state is being taken in

	mu    sync.Mutex
	last  applied
	place int
	keys  map[uint64]value
}

func newMachine(n *node, o *oracle) *machine {
	return &machine{node: n, oracle: o, applying: make(chan struct{}, 1), keys: map[uint64]value{}}
}

// apply carries out a command, and checks that every server does what any does.
func (m *machine) apply(ctx raft.Context, c *command) (interface{}, error) {
	m.applying <- struct{}{}
	defer func() { <-m.applying }()
	m.changing.Store(true)
	defer m.changing.Store(false)
	m.node.applying()
	w := m.node.world
	if !slices.Equal(c.filler, filling(c.value, w.plan.value)) {
		w.violated("I4: %s: the command %+v at %d is not what was sent", m.node.name, c.value, ctx.CurrentIndex())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.keys[c.key]
	if c.kind != get {
		m.keys[c.key] = c.value
	}
	e := applied{index: ctx.CurrentIndex(), term: ctx.CurrentTerm(), value: c.value, kind: c.kind, chain: m.last.chain}
	for _, v := range [...]uint64{e.index, e.term, c.client, c.serial, c.kind, c.key, before.client, before.serial} {
		e.chain = (e.chain ^ v) * fnvPrime
	}
	if e.index <= m.last.index || e.term < m.last.term {
		w.violated("I8: %s applied %+v after %+v", m.node.name, e, m.last)
	}
	m.last = e
	m.place++
	m.oracle.applies(m.node.name, m.place, e)
	r := receipt{index: e.index, chain: e.chain, place: m.place, before: before}
	if c.kind == refuse {
		return nil, r
	}
	return r, nil
}

// Save is StateMachine's.
func (m *machine) Save() ([]byte, error) {
	if err := m.node.saves(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.node.world.count("states saved")
	return m.encode(), nil
}

func (m *machine) encode() []byte {
	var b []byte
	for _, v := range [...]uint64{uint64(m.place), m.last.index, m.last.term, m.last.client, m.last.serial, m.last.kind, m.last.chain} {
		b = binary.AppendUvarint(b, v)
	}
	for _, key := range slices.Sorted(maps.Keys(m.keys)) {
		for _, v := range [...]uint64{key, m.keys[key].client, m.keys[key].serial} {
			b = binary.AppendUvarint(b, v)
		}
	}
	// Some states are sent in several pieces.
	if m.place%7 == 3 {
		b = append(b, make([]byte, m.node.world.plan.segment*2)...)
	}
	return b
}

// Recovery is StateMachine's: the state must be one that a server was in.
func (m *machine) Recovery(state []byte) error {
	m.changing.Store(true)
	defer m.changing.Store(false)
	rest, bad := state, false
	next := func() uint64 {
		v, n := binary.Uvarint(rest)
		bad = bad || n <= 0
		rest = rest[max(n, 0):]
		return v
	}
	place := int(next())
	last := applied{index: next(), term: next(), value: value{next(), next()}, kind: next(), chain: next()}
	if bad {
		return errors.New("not a state of the simulation")
	}
	keys := map[uint64]value{}
	for len(rest) > 0 && !slices.Equal(rest[:min(3, len(rest))], []byte{0, 0, 0}) && !bad {
		key := next()
		keys[key] = value{next(), next()}
	}
	w := m.node.world
	m.mu.Lock()
	defer m.mu.Unlock()
	if place < m.place {
		w.violated("I8: %s was taken back from %+v to %+v", m.node.name, m.last, last)
	}
	m.place, m.last, m.keys = place, last, keys
	if !slices.Equal(m.encode(), state) {
		w.violated("I4: %s was given another state than was saved at %d", m.node.name, last.index)
	}
	m.oracle.restores(m.node.name, place, last)
	w.count("states restored")
	return nil
}

// reset empties the machine of a server that is stopped and will start again, when
// no Apply is under way any more.
func (m *machine) reset() {
	m.applying <- struct{}{}
	defer func() { <-m.applying }()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.place, m.last, m.keys = 0, applied{}, map[uint64]value{}
}

// state is how far the machine is.
func (m *machine) state() (place int, chain uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.place, m.last.chain
}

var (
	errSave  = errors.New("simulation: Save fails")
	errApply = errors.New("simulation: Apply panics")
)

// applying is where an Apply takes its time, does not return, or panics.
func (n *node) applying() {
	if n.panics.CompareAndSwap(true, false) {
		panic(errApply)
	}
	n.slowed()
}

// slowed is where it takes its time or does not return.
func (n *node) slowed() {
	if gate := n.applyGate.Load(); gate != nil {
		<-*gate
	}
	if n.slowLeft.Load() > 0 && n.slowLeft.Add(-1) >= 0 {
		<-time.After(time.Duration(n.slowness.Load()))
	}
}

// saves is where a Save takes its time, does not return for long, or fails.
func (n *node) saves() error {
	if gate := n.saveGate.Load(); gate != nil {
		<-*gate
	}
	if d := n.slowSave.Load(); d > 0 {
		<-time.After(time.Duration(d))
	}
	if n.failSave.CompareAndSwap(true, false) {
		return errSave
	}
	return nil
}
