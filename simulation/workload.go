//go:build simulation

package simulation

import (
	"context"

	"github.com/anishathalye/porcupine"
	"github.com/goraft/raft"
)

// workload is what runs on the servers of a world, and who uses it.
type workload interface {
	// register tells the servers' registry the commands.
	register(*raft.Registry) error
	// machine makes what a server's next life is given.
	machine(*node) (raft.StateMachine, interface{})
	// reset makes a machine new, for a server that is stopped and will start
	// again; false: it cannot, the server has to be made anew.
	reset(*node) bool
	// foreign reports whether Apply is not the simulation's own: then it cannot be
	// held up from inside.
	foreign() bool
	// client is one of those who send commands.
	client(id int) worker
	// complete reports whether a server's state is all that was ever applied.
	complete(*node) bool
	// settle checks at the end what clients were told.
	settle()
	// done counts what clients did; history is all of it.
	done() int
	history() []porcupine.Operation
}

// worker is a client.
type worker interface {
	// work sends commands until the context ends.
	work(context.Context)
	// send sends one and reports whether it was carried out.
	send(raft.Server) bool
}

// registers is the workload of the simulation's own: keys with a value each, of
// which everything is known that servers and clients say.
type registers struct {
	*oracle
	clients []*client
}

func newRegisters(w *world) *registers { return &registers{oracle: &oracle{world: w}} }

func (g *registers) register(registry *raft.Registry) error { return registry.Register(&command{}) }

func (g *registers) machine(n *node) (raft.StateMachine, interface{}) {
	m := newMachine(n, g.oracle)
	n.machine.Store(m)
	return m, m
}

func (g *registers) reset(n *node) bool {
	n.machine.Load().reset()
	return true
}

func (g *registers) foreign() bool { return false }

func (g *registers) client(id int) worker {
	c := newClient(g.world, g.oracle, uint64(id))
	g.clients = append(g.clients, c)
	return c
}

func (g *registers) complete(n *node) bool {
	place, chain := n.machine.Load().state()
	last, total := g.last()
	return place == total && chain == last.chain
}

func (g *registers) settle() {
	for _, n := range g.world.allNodes() {
		g.world.within(20, "to read on "+n.name, func() bool {
			server := g.world.cluster.Server(n.name)
			floor := g.oracle.acknowledged()
			return server != nil && (n.bare && server.State() != raft.Leader ||
				g.clients[0].lookAt(server, raft.Linearizable, readsLinearizable, floor))
		})
	}
	g.oracle.settle(g.clients)
}

func (g *registers) done() (n int) {
	for _, c := range g.clients {
		n += len(c.sent) + len(c.looks)
	}
	return n
}

func (g *registers) history() []porcupine.Operation { return history(g.clients) }
