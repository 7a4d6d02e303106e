//go:build simulation

package simulation

import (
	"math/rand/v2"
	"slices"
	"time"
)

// action is something bad that can be done to a world, and undone. Of each group
// at most one is at work at a time.
type action struct {
	name, group string
	// begin does it and returns how to undo it, nil if it could not be done.
	begin func(n *nemesis) (end func())
}

// nemesis begins and ends actions. Each has dice of its own number, so that one
// that is left out (see SIM_SKIP) changes none of the others.
type nemesis struct {
	world  *world
	rand   *rand.Rand // of the action at hand
	active []begun
	number int
	joins  int // still to be done
}

// begun is an action at work.
type begun struct {
	name, group string
	until       time.Duration
	end         func()
}

// actions are all there are, in a fixed order.
var actions []action

func init() {
	actions = slices.Concat(cuts(), lives(), disks(), machines(), memberships(), offices())
}

// rage works for the plan's time; then it ends everything.
func (n *nemesis) rage() {
	w := n.world
	end := w.trace.now() + w.plan.length
	for w.trace.now() < end && !w.failed() {
		n.rand = dice(w.plan.seed, "action", n.number)
		pause := time.Duration(n.rand.ExpFloat64() * w.plan.calm * float64(w.plan.election))
		n.passUntil(min(end, w.trace.now()+min(pause, 20*w.plan.election)))
		n.act()
		n.number++
	}
	n.passUntil(end)
	for len(n.active) > 0 {
		n.endFirst()
	}
}

// passUntil lets time pass, and ends what ends meanwhile.
func (n *nemesis) passUntil(when time.Duration) {
	for len(n.active) > 0 && n.active[0].until <= when && !n.world.failed() {
		n.sleepUntil(n.active[0].until)
		n.endFirst()
	}
	n.sleepUntil(when)
}

// sleepUntil ends early where the run has failed: what comes after that only buries
// its cause.
func (n *nemesis) sleepUntil(when time.Duration) {
	if d := when - n.world.trace.now(); d > 0 {
		n.world.wait(n.world.unbroken, d)
	}
}

func (n *nemesis) endFirst() {
	first := n.active[0]
	n.active = n.active[1:]
	n.world.trace.printf("nemesis ends %s", first.name)
	first.end()
}

// act draws an action and begins it.
func (n *nemesis) act() {
	w := n.world
	a := n.draw()
	took := time.Duration(n.rand.ExpFloat64() * 3 * float64(w.plan.election))
	if n.rand.IntN(20) == 0 {
		took *= 10
	}
	switch {
	case a == nil, len(n.active) >= w.plan.most:
		return
	case a.group != "" && slices.ContainsFunc(n.active, func(b begun) bool { return b.group == a.group }):
		return
	case w.skip(n.number):
		w.trace.printf("nemesis leaves out %d, %s", n.number, a.name)
		w.count("skipped")
		return
	}
	w.trace.printf("nemesis begins %d, %s", n.number, a.name)
	end := a.begin(n)
	if end == nil {
		w.trace.printf("nemesis cannot")
		return
	}
	w.count(a.name)
	b := begun{a.name, a.group, w.trace.now() + took, end}
	i, _ := slices.BinarySearchFunc(n.active, b, func(x, y begun) int { return int(x.until - y.until) })
	n.active = slices.Insert(n.active, i, b)
}

func (n *nemesis) draw() *action {
	total := 0
	for i := range actions {
		total += n.world.plan.mix[actions[i].name]
	}
	if total == 0 {
		return nil
	}
	k := n.rand.IntN(total)
	for i := range actions {
		if k -= n.world.plan.mix[actions[i].name]; k < 0 {
			return &actions[i]
		}
	}
	return nil
}

// some picks a server: any, or the leader in one case of three.
func (n *nemesis) some() *node {
	nodes := n.world.allNodes()
	i, lead := n.rand.IntN(len(nodes)), n.rand.IntN(3) == 0
	node := nodes[i]
	if leader := n.world.leader(); leader != nil && lead {
		node = n.world.node(leader.Name())
	}
	n.world.trace.printf("  picks %s", node.name)
	return node
}

// take picks a server whose life nothing else decides, or nil.
func (n *nemesis) take() *node {
	node := n.some()
	if node.busy || n.world.cluster.Server(node.name) == nil {
		return nil
	}
	node.busy = true
	return node
}
