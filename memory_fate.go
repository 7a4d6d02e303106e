package raft

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/goraft/raft/internal/wal"
)

// Fate is what becomes of one message besides what a MemoryNetwork's other
// settings do. The zero value is nothing. Its parts add up: a message may be
// dropped and yet arrive Again.
type Fate struct {
	// Drop loses the message.
	Drop bool
	// Delay is on top of the network's own. A message that is delayed is overtaken
	// by others, but on a stream, where all that follow wait behind it.
	Delay time.Duration
	// Again has one more copy of a request arrive for each of its elements, so
	// long after the message itself would have without Delay: a duplicate, or a
	// replay, also to a later life of the addressee and in the name of a sender
	// that is gone. A copy is served as a request of its own, one from a stream as
	// a single call, and if it was answered before, its answer goes nowhere.
	// Answers come once.
	Again []time.Duration
	// Flip changes so many bits of the message's bytes, as the HTTP transporter
	// would send them. What that would refuse is lost; a stream breaks.
	Flip int
	// To has the message arrive at another server on the network, of whatever
	// cluster, with its own addressee in it. A request is served there, and the
	// answer comes back as if from the addressee; one from a stream is lost to the
	// stream and served as a single call. An answer is lost: nobody waits for it
	// there.
	To string
}

// SetFates has f decide what becomes of every message; nil ends it. f is asked
// about one message at a time in the order in which they leave, and must not
// wait. The dice are the message's own: they come from the network's seed, the
// link and the message's number on it, so that f may draw more or less for one
// message without shifting what it draws for the others, or what chance decides
// by the other settings.
func (n *MemoryNetwork) SetFates(f func(m MemoryMessage, dice *rand.Rand) Fate) {
	n.set(func(faults *faults) { faults.fates = f })
}

// memoryRoute is what a network knows of one direction between two servers.
type memoryRoute struct {
	dice   *rand.Rand // of the settings for all messages
	seed   uint64     // of the dice of single messages
	source rand.PCG
	fate   *rand.Rand // draws from source
	sent   uint64     // messages ever
	latest uint64     // the highest number of those that arrived
}

func (n *MemoryNetwork) routeOf(link memoryLink) *memoryRoute {
	r := n.mu.routes[link]
	if r == nil {
		r = &memoryRoute{
			dice: rand.New(rand.NewPCG(n.seed, hashNames(link.from, link.to))),
			seed: hashNames(link.from, link.to, "fate"),
		}
		r.fate = rand.New(&r.source)
		n.mu.routes[link] = r
	}
	return r
}

// diceFor returns the dice of a parcel that is about to be placed.
func (n *MemoryNetwork) diceFor(p *parcel) *rand.Rand {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.routeOf(memoryLink{p.from.name, p.to})
	r.source.Seed(n.seed^r.seed, r.sent+1)
	return r.fate
}

// replay puts the later copies of a request on their way.
func (n *MemoryNetwork) replay(p *parcel, first time.Time, after []time.Duration) {
	if p.answer {
		return
	}
	for _, d := range after {
		n.mu.stats.Replayed++
		n.pushAgain(p.asCall(), first.Add(max(d, 0)))
	}
}

// pushAgain puts a copy of a parcel on its way.
func (n *MemoryNetwork) pushAgain(p *parcel, due time.Time) {
	again := *p
	again.due, again.copied = due, true
	n.push(&again)
}

// asCall is the parcel if it belongs to a call, or a copy that does, whose answer
// nobody waits for.
func (p *parcel) asCall() *parcel {
	if p.pipe == nil {
		return p
	}
	c := *p
	c.pipe, c.host = nil, nil
	c.call = &memoryCall{from: p.from, to: p.to, order: p.order, answer: make(chan any, 1)}
	return &c
}

// misdirect sends a parcel elsewhere, and returns what is to arrive there, if
// anything is.
func (n *MemoryNetwork) misdirect(p *parcel, to string) *parcel {
	n.mu.stats.Misdelivered++
	if p.answer || p.pipe != nil {
		n.lose(p, n.mu.streamLoss)
	}
	if p.answer {
		return nil
	}
	p = p.asCall()
	p.to, p.astray, p.met = to, true, n.mu.endpoints[to]
	return p
}

// flip changes bits of a parcel and reports whether what is left of it is a
// message.
func (n *MemoryNetwork) flip(p *parcel, bits int) bool {
	n.mu.stats.Flipped++
	message, err := p.flipped(bits, p.route.fate)
	if err != nil {
		return false
	}
	n.mu.stats.Unnoticed++
	p.message = message
	return true
}

// flipped is the parcel's message as the real decoder reads it from the real
// bytes with some bits changed.
func (p *parcel) flipped(bits int, dice *rand.Rand) (any, error) {
	switch m := p.message.(type) {
	case *AppendEntriesRequest:
		if p.pipe != nil {
			return flippedRequest(m, p.from.name, p.to, bits, dice)
		}
	case *AppendEntriesResponse:
		if p.pipe != nil {
			return flippedResponse(m, p.from.name, bits, dice)
		}
	}
	m, ok := p.message.(codable)
	if !ok {
		return nil, ErrHello // the opening of a stream is checked as a whole, too
	}
	var b bytes.Buffer
	if _, err := m.Encode(&b); err != nil {
		return nil, err
	}
	flipBits(b.Bytes(), bits, dice)
	fresh := freshOf(m)
	_, err := fresh.Decode(&b)
	return fresh, err
}

func flippedRequest(m *AppendEntriesRequest, from, to string, bits int, dice *rand.Rand) (any, error) {
	body := m.records
	if len(body) == 0 && len(m.Entries) > 0 {
		var err error
		if body, err = m.recordsFromEntries(wal.Seed(m.ClusterID)); err != nil {
			return nil, err
		}
	}
	b := m.appendHeader(beginFrame(nil, frameRequest))
	finishFrame(b, 0, body)
	header, body, err := readFlipped(append(b, body...), frameRequest, MaxMessageBytes, bits, dice)
	if err != nil {
		return nil, err
	}
	return requestOfFrame(header, body, from, to)
}

func flippedResponse(m *AppendEntriesResponse, from string, bits int, dice *rand.Rand) (any, error) {
	header, body, err := readFlipped(appendResponseFrame(nil, m), frameResponse, maxResponseFrames, bits, dice)
	if err != nil {
		return nil, err
	}
	return responseOfFrame(header, body, from)
}

// readFlipped reads a frame some bits of which it has changed.
func readFlipped(b []byte, kind byte, limit, bits int, dice *rand.Rand) (header, body []byte, err error) {
	flipBits(b, bits, dice)
	frames := newFrameReader(bufio.NewReaderSize(bytes.NewReader(b), frameBufferSize), kind, limit, func(int) {})
	return frames.next()
}

// flipBits changes so many different bits, or all.
func flipBits(b []byte, bits int, dice *rand.Rand) {
	var flipped []int
	for len(flipped) < min(bits, 8*len(b)) {
		if i := dice.IntN(8 * len(b)); !slices.Contains(flipped, i) {
			b[i/8] ^= 1 << (i % 8)
			flipped = append(flipped, i)
		}
	}
}
