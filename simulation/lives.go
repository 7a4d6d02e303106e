//go:build simulation

package simulation

import (
	"context"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// lives are the actions on processes.
func lives() []action {
	return []action{
		{"crash", "", func(n *nemesis) func() { return n.crash(n.take(), vfs.Random(n.rand)) }},
		{"crash that loses all", "", func(n *nemesis) func() { return n.crash(n.take(), vfs.Nothing) }},
		{"kill", "", func(n *nemesis) func() { return n.crash(n.take(), vfs.Everything) }},
		{"crash of all", "", crashOfAll},
		{"crash behind the quorum", "", crashBehindQuorum},
		{"stop and start", "", stopAndStart},
		{"pause", "", pause},
		{"timeouts", "", drift},
		{"drift", "drift", driftOfAll},
		{"flush", "", func(n *nemesis) func() {
			s := n.world.cluster.Server(n.some().name)
			if s == nil {
				return nil
			}
			n.world.tasks.Go(s.FlushCommitIndex)
			return func() {} // it may wait for a disk that is held up
		}},
	}
}

// ends remembers what a life that ends has made durable (I7).
func (w *watch) ends(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.logs[name]; m != nil {
		w.promised[name] = m
		w.gone[store{name, m.last.StoreID}] = m
	}
}

// forgets is told that a server's disk is not what its last life left, and returns
// that: none of it binds the next life.
func (w *watch) forgets(name string) *mirror {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.promised[name]
	delete(w.promised, name)
	delete(w.logs, name)
	for of := range w.heard {
		if of.name == name {
			delete(w.heard, of)
		}
	}
	for b := range w.votes {
		if b.name == name {
			delete(w.votes, b)
		}
	}
	return m
}

// crash takes the power from a server.
func (n *nemesis) crash(node *node, choose vfs.Chooser) func() {
	if node == nil {
		return nil
	}
	n.fell(node, choose)
	return func() { n.rise(node) }
}

// fell ends a server's life at once.
func (n *nemesis) fell(node *node, choose vfs.Chooser) {
	node.release()
	n.world.cluster.CrashKeeping(node.name, choose)
	n.world.watch.ends(node.name)
	n.world.trace.printf("%s is down", node.name)
}

// rise begins another life of a server.
func (n *nemesis) rise(node *node) {
	n.world.mustStart(node, func() error { return n.world.cluster.Start(node.name) })
	node.busy = false
}

// crashOfAll takes the power from all servers.
func crashOfAll(n *nemesis) func() {
	var down []*node
	for _, node := range n.world.allNodes() {
		if !node.busy && n.world.cluster.Server(node.name) != nil {
			node.busy = true
			n.fell(node, vfs.Random(n.rand))
			down = append(down, node)
		}
	}
	return func() {
		for _, node := range down {
			n.rise(node)
		}
	}
}

// crashBehindQuorum takes the power from all while the leader's disk is behind and
// half of the others are cut off: what is acknowledged then is on just as many
// disks as it must be.
func crashBehindQuorum(n *nemesis) func() {
	w := n.world
	leader := w.leader()
	if leader == nil {
		return nil
	}
	w.node(leader.Name()).syncTime.Store(int64(w.plan.election / 3))
	var cut []string
	for _, name := range w.cluster.Names() {
		if name != leader.Name() && len(cut) < leader.MemberCount()/2 {
			cut = append(cut, name)
			w.cluster.Network().Block(leader.Name(), name)
		}
	}
	w.wait(context.Background(), time.Duration(n.rand.Int64N(int64(w.plan.election)/2)))
	end := crashOfAll(n)
	for _, name := range cut {
		w.cluster.Network().Unblock(leader.Name(), name)
	}
	return end
}

// stopAndStart stops a server in order and starts the same object again.
func stopAndStart(n *nemesis) func() {
	node := n.take()
	if node == nil {
		return nil
	}
	w := n.world
	server := w.cluster.Server(node.name)
	began, limit := w.trace.now(), 2*server.ElectionTimeout()+w.plan.heartbeat
	server.Stop()
	if took := w.trace.now() - began; took > limit {
		w.violated("I12: stopping %s took %v", node.name, took)
	}
	w.watch.ends(node.name)
	w.trace.printf("%s has stopped", node.name)
	return func() {
		w.mustStart(node, func() error {
			if w.workload.reset(node) {
				return server.Start()
			}
			w.cluster.Stop(node.name)
			return w.cluster.Start(node.name)
		})
		node.busy = false
	}
}

// pause suspends a process: its goroutines stay where they are, its timers run out
// meanwhile, and what is sent to it waits.
func pause(n *nemesis) func() {
	node := n.take()
	if node == nil {
		return nil
	}
	w := n.world
	open := shut(&node.gate)
	if open == nil {
		node.busy = false
		return nil
	}
	w.cluster.Network().Pause(node.name)
	began := w.trace.now()
	return func() {
		w.mu.Lock()
		w.paused = max(w.paused, w.trace.now()-began)
		w.mu.Unlock()
		open()
		w.cluster.Network().Resume(node.name)
		node.busy = false
	}
}

// set gives a server settings of its own. A process that is suspended takes no
// calls: whoever makes one is as good as suspended with it.
func (w *world) set(name string, rate float64) {
	if s := w.cluster.Server(name); s != nil && w.node(name).gate.Load() == nil {
		s.SetHeartbeatInterval(time.Duration(float64(w.plan.heartbeat) / rate))
		s.SetElectionTimeout(time.Duration(float64(w.plan.election) / rate))
		s.SetHeartbeatInterval(time.Duration(float64(w.plan.heartbeat) / rate))
	}
}

// drift gives one server timeouts that fit nobody else's.
func drift(n *nemesis) func() {
	name := n.some().name
	n.world.set(name, []float64{0.33, 0.5, 2}[n.rand.IntN(3)])
	return func() { n.world.set(name, 1) }
}

// driftOfAll has the clocks run at rates of their own: what a server measures by
// its clock is that much shorter or longer.
func driftOfAll(n *nemesis) func() {
	for _, name := range n.world.cluster.Names() {
		n.world.set(name, 0.9+0.2*n.rand.Float64())
	}
	return func() {
		for _, name := range n.world.cluster.Names() {
			n.world.set(name, 1)
		}
	}
}

// settings puts everybody's settings right.
func (w *world) settings() {
	for _, name := range w.cluster.Names() {
		w.set(name, 1)
	}
}
