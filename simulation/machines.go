//go:build simulation

package simulation

import "github.com/goraft/raft/internal/vfs"

// machines are the actions on state machines and snapshots.
func machines() []action {
	return []action{
		{"slow Apply", "", func(n *nemesis) func() {
			node := n.some()
			node.slowness.Store(n.rand.Int64N(int64(n.world.plan.election) / 2))
			node.slowLeft.Store(20)
			return func() { node.slowLeft.Store(0) }
		}},
		{"blocked Apply", "", func(n *nemesis) func() { return shut(&n.some().applyGate) }},
		{"failing Apply", "", failApply},
		{"blocked Save", "", func(n *nemesis) func() {
			node := n.some()
			open := shut(&node.saveGate)
			if open == nil {
				return nil
			}
			n.snapshot(node)
			return open
		}},
		{"slow Save", "", func(n *nemesis) func() {
			node := n.some()
			node.slowSave.Store(n.rand.Int64N(2 * int64(n.world.plan.election)))
			return func() { node.slowSave.Store(0) }
		}},
		{"failing Save", "", func(n *nemesis) func() {
			node := n.some()
			node.failSave.Store(true)
			n.snapshot(node)
			return func() { node.failSave.Store(false) }
		}},
		{"snapshot", "", func(n *nemesis) func() {
			n.snapshot(n.some())
			return func() {} // it may wait for a disk that is held up
		}},
	}
}

// failApply has a server's next Apply panic: it applies nothing more, leads no
// longer, and begins another life.
func failApply(n *nemesis) func() {
	node := n.take()
	if node == nil {
		return nil
	}
	node.mayFail.Store(true)
	node.panics.Store(true)
	chance := n.rand // when this ends, n has another action's
	return func() {
		n.fell(node, vfs.Random(chance))
		n.rise(node)
	}
}

// snapshot has a server take a snapshot.
func (n *nemesis) snapshot(node *node) {
	s := n.world.cluster.Server(node.name)
	if s == nil {
		return
	}
	w := n.world
	w.tasks.Go(func() { w.trace.printf("%s takes a snapshot: %v", node.name, s.TakeSnapshot()) })
}
