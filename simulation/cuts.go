//go:build simulation

package simulation

import (
	"slices"
	"time"
)

// link is one direction between two servers.
type link struct{ from, to string }

// cuts are the actions on links.
func cuts() []action {
	return []action{
		{"full partition", "", func(n *nemesis) func() { return n.cut(func(from, to int) bool { return from&1 != to&1 }) }},
		{"isolation", "", func(n *nemesis) func() { return n.cut(func(from, to int) bool { return from == 0 || to == 0 }) }},
		{"partial partition", "", func(n *nemesis) func() { return n.cut(func(from, to int) bool { return from+to == 1 }) }},
		{"one-way link", "", func(n *nemesis) func() { return n.cut(func(from, to int) bool { return from == 0 && to == 1 }) }},
		{"deaf server", "", func(n *nemesis) func() { return n.cut(func(_, to int) bool { return to == 0 }) }},
		{"mute server", "", func(n *nemesis) func() { return n.cut(func(from, _ int) bool { return from == 0 }) }},
		{"random links", "", func(n *nemesis) func() {
			share := n.rand.Float64()
			return n.cut(func(int, int) bool { return n.rand.Float64() < share })
		}},
		{"half-open links", "", func(n *nemesis) func() {
			net := n.world.cluster.Network()
			return n.links(func(from, to int) bool { return from == 0 && to > 0 }, net.Stall, net.Unstall)
		}},
		{"clog", "", func(n *nemesis) func() {
			net, share := n.world.cluster.Network(), n.rand.Float64()
			return n.links(func(int, int) bool { return n.rand.Float64() < share }, net.Clog, net.Unclog)
		}},
		{"delay", "delay", func(n *nemesis) func() {
			p := n.world.plan
			most := time.Duration(n.rand.ExpFloat64() * float64(p.election) / 3)
			n.world.cluster.Delay(p.delay[0], p.delay[1]+most)
			return func() { n.world.cluster.Delay(p.delay[0], p.delay[1]) }
		}},
		{"storm", "storm", func(n *nemesis) func() {
			net := n.world.cluster.Network()
			net.SetLoss(n.rand.Float64() * 0.4)
			net.SetDuplicates(n.rand.Float64() * 0.4)
			return func() { net.SetLoss(0); net.SetDuplicates(0) }
		}},
	}
}

// cut drops all messages on the links for which which says so.
func (n *nemesis) cut(which func(from, to int) bool) func() {
	net := n.world.cluster.Network()
	return n.links(which, net.Block, net.Unblock)
}

// links does something to the links for which which says so, and undoes it; it
// knows servers as numbers in an order drawn anew, the first of which is likely to
// be the leader's.
func (n *nemesis) links(which func(from, to int) bool, do, undo func(from, to string)) func() {
	names := slices.Clone(n.world.cluster.Names())
	n.rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	if first := slices.Index(names, n.some().name); first > 0 {
		names[0], names[first] = names[first], names[0]
	}
	var links []link
	for i, from := range names {
		for j, to := range names {
			if i != j && which(i, j) {
				links = append(links, link{from, to})
			}
		}
	}
	for _, l := range links {
		n.world.trace.printf("  from %s to %s", l.from, l.to)
		do(l.from, l.to)
	}
	return func() {
		for _, l := range links {
			undo(l.from, l.to)
		}
	}
}
