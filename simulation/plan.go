//go:build simulation

package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/goraft/raft"
)

// plan is what a seed draws for its run.
type plan struct {
	seed                uint64
	servers, spares     int // at the start, and that may join
	election, heartbeat time.Duration
	delay               [2]time.Duration // of a message, at least and at most
	sync                time.Duration    // of a disk, on average
	length              time.Duration    // of the faults
	clients, keys       int
	pause               time.Duration // of a client between two commands, on average
	value               int           // largest value, but for some
	segment             int64
	snapshots           uint64 // entries between two
	form                raft.MessageForm
	checked             bool
	bare                float64 // share of servers with nothing but goraft's Transporter
	prevoteless         float64 // share of servers without pre-vote
	strangers           bool    // another cluster has its messages led astray
	yields              uint64  // one of so many hand-overs is held up; 0 for none
	weather             weather
	mix                 map[string]int // weights of the nemesis' actions, by name
	most                int            // faults at a time
	calm                float64        // mean election timeouts between two actions
}

// weather is what happens to messages all the time.
type weather struct {
	loss, duplicates, reorder, late, replay, flip, misdeliver float64
}

// dice are the random numbers of one actor. They depend on nothing but the seed
// and the actor's name, so that no actor shifts what another one draws.
func dice(seed uint64, actor string, number int) *rand.Rand {
	h := uint64(14695981039346656037)
	for _, c := range []byte(actor) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h+uint64(number)*0x9e3779b97f4a7c15))
}

// pick draws one of several.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// sometimes draws a value below most with the probability p, else 0.
func sometimes(r *rand.Rand, p, most float64) float64 {
	if r.Float64() >= p {
		return 0
	}
	return r.Float64() * most
}

// draw draws a plan. Every run is another mixture: most have some kinds of faults
// only, because a fault that happens all the time hides what others would show.
func draw(seed uint64, short bool) *plan {
	r := dice(seed, "plan", 0)
	p := &plan{seed: seed}
	p.servers = pick(r, 1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7)
	p.spares = r.IntN(min(3, 8-p.servers))
	p.election = pick[time.Duration](r, 50, 100, 150, 150, 300, 500, 1000, 2000) * time.Millisecond
	p.heartbeat = p.election / pick[time.Duration](r, 3, 4, 5, 10)
	p.delay[0] = time.Duration(r.Int64N(int64(p.heartbeat / 20)))
	p.delay[1] = p.delay[0] + time.Duration(r.Int64N(int64(p.heartbeat/4)))
	p.sync = time.Duration(r.Int64N(int64(p.heartbeat / 10)))
	p.length = time.Duration(40+r.IntN(120)) * p.election
	p.clients, p.keys = 1+r.IntN(6), 1+r.IntN(8)
	// A history is to be long enough to show something and short enough to be
	// searched.
	p.pause = p.length * time.Duration(p.clients) / pick[time.Duration](r, 200, 500, 1000, 2000)
	p.value = pick(r, 16, 128, 1024, 16<<10)
	p.segment = pick[int64](r, 64<<10, 128<<10, 1<<20)
	p.snapshots = pick[uint64](r, 0, 10, 40, 150, 1000)
	p.form = pick(r, raft.AsStructs, raft.AsProtobuf, raft.AsProtobuf, raft.AsJSON)
	p.checked = r.IntN(4) == 0
	p.bare = sometimes(r, 0.25, 1)
	p.prevoteless = sometimes(r, 0.25, 1)
	if p.strangers = r.IntN(6) == 0; p.strangers {
		p.spares = 0 // they would take in a server that belongs to nobody yet
	}
	p.yields = pick[uint64](r, 0, 0, 300, 100, 30)
	p.weather = weather{
		loss: sometimes(r, 0.4, 0.1), duplicates: sometimes(r, 0.4, 0.1), reorder: sometimes(r, 0.4, 0.2),
		late: sometimes(r, 0.3, 0.005), replay: sometimes(r, 0.3, 0.01), flip: sometimes(r, 0.3, 0.01), misdeliver: sometimes(r, 0.3, 0.01),
	}
	p.most, p.calm = 1+r.IntN(4), 0.3+3*r.Float64()
	p.mix = map[string]int{}
	for _, a := range actions {
		if r.IntN(3) > 0 {
			p.mix[a.name] = 1 + r.IntN(8)
		}
	}
	if short {
		p.length, p.clients, p.servers, p.spares = 20*p.election, 2, min(p.servers, 3), 0
	}
	return p
}

// String is for the first line of a trace.
func (p *plan) String() string {
	return fmt.Sprintf("%d servers and %d spares, election timeout %v, heartbeats %v, messages %v to %v, syncs %v, %v of faults, %d clients every %v, snapshots every %d, form %d, bare %.2f, without pre-vote %.2f, strangers %t, yields %d, %+v",
		p.servers, p.spares, p.election, p.heartbeat, p.delay[0], p.delay[1], p.sync, p.length, p.clients, p.pause, p.snapshots, p.form, p.bare, p.prevoteless, p.strangers, p.yields, p.weather)
}
