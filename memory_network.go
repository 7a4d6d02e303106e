package raft

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Timings that a MemoryNetwork starts with.
const (
	memoryMinDelay    = 50 * time.Microsecond
	memoryMaxDelay    = 250 * time.Microsecond
	memoryCallTimeout = 100 * time.Millisecond
)

// MemoryNetwork connects servers of one process by name, for tests of
// applications: see Transporter and, for whole clusters, NewCluster. It delays
// every message a little, and loses, duplicates and withholds messages as told.
//
// What it decides by chance comes from its seed alone, link by link. A message
// that is sent waits until the servers have nothing more to do at that instant,
// so that in a testing/synctest bubble the order of goroutines decides nothing.
//
// Its methods may be called from any goroutine. A network has goroutines of its
// own: Close it.
type MemoryNetwork struct {
	seed    uint64
	kick    chan struct{} // something was sent; capacity 1
	closing chan struct{}
	tasks   tasks
	mu      struct {
		sync.Mutex
		faults
		endpoints map[string]*MemoryTransporter
		routes    map[memoryLink]*memoryRoute
		outbox    []*parcel  // sent and not yet on its way
		transit   parcelHeap // on its way
		held      []*parcel  // arrived where a Pause or a Clog keeps them
		placed    uint64     // parcels ever put on their way
		delivered time.Time  // when the last one was due
		calls     map[*memoryCall]struct{}
		streams   map[*memoryStream]struct{}
		ended     []*memoryStream // whose end is to be told when mu is free
		stats     MemoryStats
		closed    bool
	}
}

// memoryLink is one direction between two servers.
type memoryLink struct{ from, to string }

// faults is everything that a test can set on a network.
type faults struct {
	groups             map[string]int // of a partition; a server that is absent is in group 0
	isolated           map[string]bool
	blocked            map[memoryLink]bool
	stalled            map[memoryLink]bool
	clogged            map[memoryLink]bool
	paused             map[string]bool
	minDelay, maxDelay time.Duration
	loss, duplicates   float64
	streamLoss         StreamLoss
	form               MessageForm
	checked            bool
	callTimeout        time.Duration
	intercept          func(MemoryMessage) bool
	fates              func(MemoryMessage, *rand.Rand) Fate
}

// MemoryMessage is one message as an interceptor, or what SetFates was given,
// sees it.
type MemoryMessage struct {
	From, To string
	Answer   bool // to a request that To sent
	Stream   bool // on an append stream
	// Message is the addressee's copy, a pointer to one of the package's requests
	// and responses, or nil for the opening of a stream. An interceptor may
	// change it.
	Message interface{}
}

// StreamLoss is what a message that is lost on an append stream means for the
// stream.
type StreamLoss int

const (
	// StreamBreaks ends the stream at once, as when a connection is reset.
	StreamBreaks StreamLoss = iota
	// StreamStalls delivers nothing more in that direction and tells nobody, as
	// a half-open connection does.
	StreamStalls
	// StreamSkips delivers all but the lost message, as no real connection does.
	StreamSkips
)

var (
	errMemoryClosed  = errors.New("raft: memory network: closed")
	errMemoryRefused = errors.New("raft: memory network: nobody answers at that name")
	errMemoryReset   = errors.New("raft: memory network: the stream was broken")
)

// NewMemoryNetwork returns a network without faults. Networks with equal seeds
// decide alike.
func NewMemoryNetwork(seed uint64) *MemoryNetwork {
	n := &MemoryNetwork{seed: seed, kick: make(chan struct{}, 1), closing: make(chan struct{})}
	n.mu.faults = faults{
		isolated: make(map[string]bool),
		blocked:  make(map[memoryLink]bool),
		stalled:  make(map[memoryLink]bool),
		clogged:  make(map[memoryLink]bool),
		paused:   make(map[string]bool),
		minDelay: memoryMinDelay, maxDelay: memoryMaxDelay,
		callTimeout: memoryCallTimeout,
	}
	n.mu.endpoints = make(map[string]*MemoryTransporter)
	n.mu.routes = make(map[memoryLink]*memoryRoute)
	n.mu.calls = make(map[*memoryCall]struct{})
	n.mu.streams = make(map[*memoryStream]struct{})
	n.tasks.Go("memory network", n.drive)
	return n
}

// Close ends every call and stream and the network's goroutines. Stop the
// servers first: a request that a server is still answering is waited for.
func (n *MemoryNetwork) Close() {
	n.mu.Lock()
	first := !n.mu.closed
	n.mu.closed = true
	for s := range n.mu.streams {
		n.endStream(s, errMemoryClosed)
	}
	n.mu.Unlock()
	if first {
		close(n.closing)
	}
	n.tellEnded()
	n.tasks.Wait()
}

// set changes the faults.
func (n *MemoryNetwork) set(change func(*faults)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.mu.faults)
}

// Partition divides the servers: those of one group reach each other and nobody
// else. All that are in no group are together in one more. It replaces an
// earlier partition.
func (n *MemoryNetwork) Partition(groups ...[]string) {
	of := make(map[string]int)
	for i, group := range groups {
		for _, name := range group {
			of[name] = i + 1
		}
	}
	n.set(func(f *faults) { f.groups = of })
}

// Isolate cuts a server off from all others.
func (n *MemoryNetwork) Isolate(name string) {
	n.set(func(f *faults) { f.isolated[name] = true })
}

// Block drops everything that one server sends to another one, in this
// direction only.
func (n *MemoryNetwork) Block(from, to string) {
	n.set(func(f *faults) { f.blocked[memoryLink{from, to}] = true })
}

// Unblock ends a Block.
func (n *MemoryNetwork) Unblock(from, to string) {
	n.set(func(f *faults) { delete(f.blocked, memoryLink{from, to}) })
}

// SetDelay sets the bounds between which each message's delay is drawn.
func (n *MemoryNetwork) SetDelay(least, most time.Duration) {
	least = max(least, 0)
	n.set(func(f *faults) { f.minDelay, f.maxDelay = least, max(least, most) })
}

// SetLoss sets the probability with which a message is lost.
func (n *MemoryNetwork) SetLoss(probability float64) {
	n.set(func(f *faults) { f.loss = probability })
}

// SetDuplicates sets the probability with which a message arrives a second
// time, with a delay of its own. Streams never duplicate.
func (n *MemoryNetwork) SetDuplicates(probability float64) {
	n.set(func(f *faults) { f.duplicates = probability })
}

// SetStreamLoss sets what a lost message does to its stream.
func (n *MemoryNetwork) SetStreamLoss(mode StreamLoss) {
	n.set(func(f *faults) { f.streamLoss = mode })
}

// SetForm sets how messages travel.
func (n *MemoryNetwork) SetForm(form MessageForm) {
	n.set(func(f *faults) { f.form = form })
}

// SetChecked makes the network look for shared memory: it copies every byte of a
// message, counts in Stats the senders that change theirs after they have sent
// them, and spoils a request that was answered.
func (n *MemoryNetwork) SetChecked(checked bool) {
	n.set(func(f *faults) { f.checked = checked })
}

// SetCallTimeout sets how long a call without a context waits for its answer, as
// a client's timeout does; 0 is for ever.
func (n *MemoryNetwork) SetCallTimeout(timeout time.Duration) {
	n.set(func(f *faults) { f.callTimeout = timeout })
}

// Intercept has f asked about every message, one at a time in the order in which
// they leave; those for which it returns false are lost. nil ends it. f must not
// wait.
func (n *MemoryNetwork) Intercept(f func(MemoryMessage) bool) {
	n.set(func(faults *faults) { faults.intercept = f })
}

// Stats returns the counts so far.
func (n *MemoryNetwork) Stats() MemoryStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.stats
}

// cut reports whether nothing passes from one server to another.
func (f *faults) cut(from, to string) bool {
	return f.isolated[from] || f.isolated[to] || f.groups[from] != f.groups[to] || f.blocked[memoryLink{from, to}]
}

// parcel is one message under way.
type parcel struct {
	from    *MemoryTransporter
	to      string
	answer  bool
	message interface{}        // the addressee's copy
	rank    int                // of its kind
	order   uint64             // among its kind, on its link
	call    *memoryCall        // that it belongs to, or
	pipe    *memoryPipe        // the direction of a stream that it is on
	host    *MemoryTransporter // that must still be there when it arrives; nil: whoever has the name
	watch   *byteWatch
	sent    time.Time

	// Since it is on its way.
	due    time.Time
	place  uint64
	route  *memoryRoute
	number uint64             // on its route
	met    *MemoryTransporter // who had the addressee's name when it left
	copied bool               // another one is the message itself
	astray bool               // to is not whom its sender meant
	held   heldBy
}

// parcelHeap has the parcel that arrives next on top.
type parcelHeap []*parcel

func (h parcelHeap) Len() int { return len(h) }

func (h parcelHeap) Less(i, j int) bool {
	return cmp.Or(h[i].due.Compare(h[j].due), cmp.Compare(h[i].place, h[j].place)) < 0
}

func (h parcelHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is heap.Interface's.
func (h *parcelHeap) Push(p any) { *h = append(*h, p.(*parcel)) }

// Pop is heap.Interface's.
func (h *parcelHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return p
}

// send takes a parcel. It only queues: see MemoryNetwork.
func (n *MemoryNetwork) send(p *parcel) {
	p.sent = time.Now()
	n.mu.Lock()
	if !n.mu.closed && !p.from.gone {
		n.mu.outbox = append(n.mu.outbox, p)
	}
	n.mu.Unlock()
	n.wake()
}

func (n *MemoryNetwork) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// drive is the network's goroutine: it alone puts parcels on their way and
// delivers them, in the order of their times.
func (n *MemoryNetwork) drive() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n.dispatch()
		for n.deliverNext() {
		}
		// Without a timer that runs for nothing, a testing/synctest bubble sees
		// when everything waits for ever.
		if wait, ok := n.idle(); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-n.kick:
		case <-timer.C:
		case <-n.closing:
			return
		}
	}
}

// idle is how long the driver may sleep, if not until it is woken.
func (n *MemoryNetwork) idle() (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case len(n.mu.outbox) > 0:
		return 1, true // the next instant
	case len(n.mu.transit) > 0:
		return max(0, time.Until(n.mu.transit[0].due)), true
	}
	return 0, false
}

// dispatch puts what was sent before this instant on its way, in an order that
// does not depend on that of the senders' goroutines.
func (n *MemoryNetwork) dispatch() {
	now := time.Now()
	n.mu.Lock()
	later := slices.IndexFunc(n.mu.outbox, func(p *parcel) bool { return !p.sent.Before(now) })
	if later < 0 {
		later = len(n.mu.outbox)
	}
	leaving := slices.Clone(n.mu.outbox[:later])
	n.mu.outbox = slices.Delete(n.mu.outbox, 0, later)
	intercept, fates := n.mu.intercept, n.mu.fates
	n.mu.Unlock()

	slices.SortStableFunc(leaving, func(a, b *parcel) int {
		return cmp.Or(cmp.Compare(a.from.name, b.from.name), cmp.Compare(a.to, b.to),
			cmp.Compare(a.rank, b.rank), cmp.Compare(a.order, b.order))
	})
	for _, p := range leaving {
		pass := intercept == nil || intercept(p.shown())
		var fate Fate
		if fates != nil {
			fate = fates(p.shown(), n.diceFor(p))
		}
		n.place(p, now, pass, &fate)
	}
	n.tellEnded()
}

// shown is the parcel as interceptors see it.
func (p *parcel) shown() MemoryMessage {
	m := MemoryMessage{From: p.from.name, To: p.to, Answer: p.answer, Stream: p.pipe != nil}
	if _, ok := p.message.(codable); ok {
		m.Message = p.message
	}
	return m
}

// place draws what chance has in store for a parcel and puts it on its way.
func (n *MemoryNetwork) place(p *parcel, now time.Time, pass bool, fate *Fate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.stats.Sent++
	route := n.routeOf(memoryLink{p.from.name, p.to})
	route.sent++
	p.route, p.number, p.met = route, route.sent, n.mu.endpoints[p.to]
	// Everything is drawn for each parcel, so that one probability does not shift
	// what the others decide.
	lost := route.dice.Float64() < n.mu.loss
	twice := route.dice.Float64() < n.mu.duplicates
	delay, delayAgain := n.delay(route.dice), n.delay(route.dice)
	if n.stopped(p) {
		return
	}
	n.replay(p, now.Add(delay), fate.Again)
	if !pass || lost || fate.Drop {
		n.mu.stats.Lost++
		n.lose(p, n.mu.streamLoss)
		return
	}
	if fate.Flip > 0 && !n.flip(p, fate.Flip) {
		n.lose(p, n.mu.streamLoss)
		return
	}
	if fate.To != "" && fate.To != p.to {
		if p = n.misdirect(p, fate.To); p == nil || n.stopped(p) {
			return
		}
	}
	if fate.Delay > 0 {
		n.mu.stats.Delayed++
	}
	p.due = now.Add(delay + max(fate.Delay, 0))
	if p.pipe != nil {
		p.due = p.pipe.next(p.due)
	}
	n.push(p)
	if twice && p.pipe == nil {
		n.mu.stats.Duplicated++
		n.pushAgain(p, now.Add(delayAgain))
	}
}

func (n *MemoryNetwork) push(p *parcel) {
	n.mu.placed++
	p.place = n.mu.placed
	heap.Push(&n.mu.transit, p)
}

func (n *MemoryNetwork) delay(dice *rand.Rand) time.Duration {
	return n.mu.minDelay + time.Duration(dice.Int64N(int64(n.mu.maxDelay-n.mu.minDelay)+1))
}

// stopped loses a parcel that its link does not carry.
func (n *MemoryNetwork) stopped(p *parcel) bool {
	switch {
	case n.mu.cut(p.from.name, p.to):
		n.mu.stats.Cut++
		n.lose(p, n.mu.streamLoss)
		return true
	case len(n.mu.stalled) > 0 && n.mu.stalled[memoryLink{p.from.name, p.to}]:
		n.mu.stats.Stalled++
		n.lose(p, StreamStalls)
		return true
	}
	return false
}

// lose counts a lost parcel and does to its stream what that means.
func (n *MemoryNetwork) lose(p *parcel, mode StreamLoss) {
	n.mu.stats.Dropped++
	if p.pipe == nil || mode == StreamSkips {
		return
	}
	// What was sent before it still arrives.
	p.pipe.stall(cmp.Or(p.place, n.mu.placed+1))
	if mode == StreamBreaks && !p.pipe.stream.dead {
		n.mu.stats.Broken++
		n.endStream(p.pipe.stream, errMemoryReset)
	}
}

// deliverNext delivers the parcel that is due, if there is one.
func (n *MemoryNetwork) deliverNext() bool {
	now := time.Now()
	n.mu.Lock()
	if len(n.mu.transit) == 0 || n.mu.transit[0].due.After(now) {
		n.mu.Unlock()
		return false
	}
	p := heap.Pop(&n.mu.transit).(*parcel)
	if p.due.Equal(now) && now.Equal(n.mu.delivered) {
		// In a bubble, what two goroutines do at one instant has no order.
		p.due = p.due.Add(1)
		heap.Push(&n.mu.transit, p)
		n.mu.Unlock()
		return true
	}
	n.mu.delivered = p.due
	arrives := n.arrives(p)
	n.mu.Unlock()
	n.tellEnded()
	if arrives {
		if p.watch.changed() {
			n.mu.Lock()
			n.mu.stats.Changed++
			n.mu.Unlock()
		}
		n.deliver(p)
	}
	return true
}

// arrives decides at the end of a parcel's way whether it is delivered.
func (n *MemoryNetwork) arrives(p *parcel) bool {
	switch {
	case n.holds(p), n.stopped(p):
		return false
	case p.pipe != nil && p.pipe.stalls(p.place):
		n.mu.stats.Stalled++
		n.mu.stats.Dropped++
		return false
	case p.host != nil && p.host.gone:
		n.mu.stats.Dropped++
		return false
	}
	n.mu.stats.arrived(p, n.mu.endpoints[p.to])
	return true
}

// deliver gives a parcel to whom it is for. The driver does it, so that it must
// not wait.
func (n *MemoryNetwork) deliver(p *parcel) {
	switch {
	case p.pipe != nil && p.answer:
		p.pipe.stream.give(p.message.(*AppendEntriesResponse))
	case p.pipe != nil:
		p.pipe.stream.take(p.message.(*AppendEntriesRequest))
	case p.answer:
		p.call.finish(p.message)
	default:
		n.tasks.Go("memory call", func() { n.serve(p) })
	}
}

// String tells what is under way, for people.
func (n *MemoryNetwork) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprintf("memory network: %+v, %d under way, %d held back, %d calls, %d streams",
		n.mu.stats, len(n.mu.outbox)+len(n.mu.transit), len(n.mu.held), len(n.mu.calls), len(n.mu.streams))
}

// hashNames is a number that differs for different names.
func hashNames(names ...string) uint64 {
	sum := fnv.New64a()
	for _, name := range names {
		// A hash takes everything.
		_, _ = sum.Write(append([]byte(name), 0))
	}
	return sum.Sum64()
}
