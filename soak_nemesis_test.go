package raft

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// soakFault is something bad that can be done to a run, and undone. Of each
// group at most one is at work at a time.
type soakFault struct {
	name   string
	group  string
	weight int
	// begin does it and returns how to undo it, or nil if it could not be done.
	begin func(n *soakNemesis) (end func())
}

// soakNemesis begins and ends faults, as its dice say.
type soakNemesis struct {
	run    *soakRun
	rand   *rand.Rand
	faults []soakFault
	active []activeFault
	counts map[string]int
	joins  int // still to be done
}

type activeFault struct {
	group string
	end   func()
}

// maxSoakFaults is how many faults are at work at once, at most.
const maxSoakFaults = 3

func newSoakNemesis(r *soakRun, faults []soakFault) *soakNemesis {
	return &soakNemesis{run: r, rand: r.dice("nemesis", 0), faults: faults, counts: map[string]int{}, joins: r.joins}
}

// rage works until the context ends; then it ends all faults.
func (n *soakNemesis) rage(ctx context.Context) {
	for n.pause(ctx); ctx.Err() == nil; n.pause(ctx) {
		if len(n.active) == maxSoakFaults || len(n.active) > 0 && n.rand.IntN(2) == 0 {
			n.endOne()
		} else {
			n.begin(n.draw())
		}
		if n.rand.IntN(12) == 0 {
			n.endAll() // a while without faults
		}
	}
	n.endAll()
}

// pause waits for a moment or for a few election timeouts.
func (n *soakNemesis) pause(ctx context.Context) {
	d := time.Duration(n.rand.ExpFloat64() * float64(n.run.election))
	n.run.wait(ctx, min(d, 6*n.run.election))
}

func (n *soakNemesis) draw() *soakFault {
	total := 0
	for i := range n.faults {
		total += n.faults[i].weight
	}
	k := n.rand.IntN(total)
	for i := range n.faults {
		if k -= n.faults[i].weight; k < 0 {
			return &n.faults[i]
		}
	}
	return nil
}

func (n *soakNemesis) begin(f *soakFault) {
	if f.group != "" && slices.ContainsFunc(n.active, func(a activeFault) bool { return a.group == f.group }) {
		return
	}
	n.run.note("begins %s", f.name)
	if end := f.begin(n); end != nil {
		n.counts[f.name]++
		n.active = append(n.active, activeFault{f.group, end})
	}
}

func (n *soakNemesis) endOne() {
	i := n.rand.IntN(len(n.active))
	end := n.active[i].end
	n.active = slices.Delete(n.active, i, i+1)
	n.run.note("ends a fault")
	end()
}

func (n *soakNemesis) endAll() {
	for len(n.active) > 0 {
		n.endOne()
	}
}

// some picks a server: any, or the leader in one case of three.
func (n *soakNemesis) some() *soakNode {
	nodes := n.run.allNodes()
	if leader := n.run.leader(); leader != nil && n.rand.IntN(3) == 0 {
		return n.run.node(leader.Name())
	}
	return nodes[n.rand.IntN(len(nodes))]
}

// take picks a server whose life no other fault decides, or nil.
func (n *soakNemesis) take() *soakNode {
	node := n.some()
	if node.busy {
		return nil
	}
	node.busy = true
	return node
}

// soakFaults are the faults of a cluster of any kind.
func soakFaults() []soakFault {
	return []soakFault{
		{"stop and start", "", 4, stopAndStart},
		{"crash", "", 6, func(n *soakNemesis) func() { return n.crash(n.take()) }},
		{"crash of all", "", 2, (*soakNemesis).crashAll},
		{"partition", "", 4, func(n *soakNemesis) func() { return n.cut(func(from, to int) bool { return from&1 != to&1 }) }},
		{"isolation", "", 4, func(n *soakNemesis) func() { return n.cut(func(from, to int) bool { return from == 0 || to == 0 }) }},
		{"deafness", "", 3, func(n *soakNemesis) func() { return n.cut(func(_, to int) bool { return to == 0 }) }},
		{"muteness", "", 3, func(n *soakNemesis) func() { return n.cut(func(from, _ int) bool { return from == 0 }) }},
		{"cut link", "", 4, func(n *soakNemesis) func() { return n.cut(func(from, to int) bool { return from+to == 1 }) }},
		{"one-way link", "", 4, func(n *soakNemesis) func() { return n.cut(func(from, to int) bool { return from == 0 && to == 1 }) }},
		{"delay", "delay", 4, func(n *soakNemesis) func() {
			most := time.Duration(n.rand.ExpFloat64() * float64(n.run.election) / 4)
			n.run.fleet.delay(0, most)
			return func() { n.run.fleet.delay(memoryMinDelay, memoryMaxDelay) }
		}},
		{"timeouts", "", 3, changeTimeouts},
		{"slow apply", "slow apply", 3, func(n *soakNemesis) func() {
			node := n.some()
			node.slow.delay.Store(n.rand.Int64N(int64(n.run.election) / 2))
			node.slow.left.Store(30)
			return func() { node.slow.left.Store(0) }
		}},
		{"join", "members", 2, joinOne},
		{"leave", "members", 3, leaveAndReturn},
		{"wipe", "members", 3, wipeAndReturn},
		{"leave by command", "members", 3, leaveByCommand},
		{"snapshot", "", 4, func(n *soakNemesis) func() {
			if s := n.run.fleet.server(n.some().name); s != nil {
				n.run.tasks.Go("snapshot", func() { _ = s.TakeSnapshot() })
				return func() {} // it may wait for a disk that is blocked
			}
			return nil
		}},
		{"flush", "", 1, func(n *soakNemesis) func() {
			if s := n.run.fleet.server(n.some().name); s != nil {
				done := make(chan struct{})
				n.run.tasks.Go("flush", func() { s.FlushCommitIndex(); close(done) })
				return func() {} // it may wait for a disk that is blocked
			}
			return nil
		}},
	}
}

// stopAndStart stops a server in order and starts the same object again.
func stopAndStart(n *soakNemesis) func() {
	node := n.take()
	if node == nil {
		return nil
	}
	s := n.run.fleet.server(node.name)
	node.life.Add(1)
	before := s.Status()
	s.Stop()
	return func() {
		n.run.startAgain(node, func() error {
			node.store.Load().reset()
			return s.Start()
		})
		node.mayFail.Store(false)
		if now := s.Status(); now.Term < before.Term && before.Error == "" {
			n.run.violated("%s stopped in order at %+v and began at %+v", node.name, before, now)
		}
		node.life.Add(1)
		node.busy = false
	}
}

// crash takes the power from a server.
func (n *soakNemesis) crash(node *soakNode) func() {
	if node == nil {
		return nil
	}
	node.life.Add(1)
	n.run.fleet.crash(node.name)
	return func() {
		node.mayFail.Store(false)
		n.run.startAgain(node, func() error { return n.run.fleet.start(node.name) })
		node.life.Add(1)
		node.busy = false
	}
}

// crashAll takes the power from all servers.
func (n *soakNemesis) crashAll() func() {
	var ends []func()
	for _, node := range n.run.allNodes() {
		if !node.busy {
			node.busy = true
			ends = append(ends, n.crash(node))
		}
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}

// cut blocks the links between servers for which which says so; it knows them as
// numbers in an order drawn anew, the first of which is likely to be the leader's.
func (n *soakNemesis) cut(which func(from, to int) bool) func() {
	names := slices.Clone(n.run.fleet.names())
	n.rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	if first := slices.Index(names, n.some().name); first > 0 {
		names[0], names[first] = names[first], names[0]
	}
	var links []memoryLink
	for i, from := range names {
		for j, to := range names {
			if i != j && which(i, j) {
				links = append(links, memoryLink{from, to})
			}
		}
	}
	for _, l := range links {
		n.run.fleet.block(l.from, l.to)
	}
	return func() {
		for _, l := range links {
			n.run.fleet.unblock(l.from, l.to)
		}
	}
}

// changeTimeouts gives one server settings of its own.
func changeTimeouts(n *soakNemesis) func() {
	name := n.some().name
	set := func(election, heartbeat time.Duration) {
		if s := n.run.fleet.server(name); s != nil {
			s.SetElectionTimeout(election)
			s.SetHeartbeatInterval(heartbeat)
		}
	}
	factor := []float64{0.5, 1, 2, 3}
	set(time.Duration(float64(n.run.election)*factor[n.rand.IntN(4)]),
		time.Duration(float64(n.run.heartbeat)*factor[n.rand.IntN(4)]))
	return func() { set(n.run.election, n.run.heartbeat) }
}

// summary is the counts of faults, by name.
func (n *soakNemesis) summary() map[string]int { return maps.Clone(n.counts) }
