//go:build simulation

package simulation

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/goraft/raft"
)

// Application is a program's own state machine, to be run under everything that a
// simulation does to its servers.
type Application struct {
	// Commands are the types of commands, to be registered.
	Commands []raft.Command
	// Machine makes the state machine of a server's next life, empty. It must
	// implement Save and Recovery.
	Machine func() raft.StateMachine
	// Command is what a client sends next. It draws from r, and from nothing else.
	Command func(r *rand.Rand) raft.Command
	// Check, if it is not nil, looks at the state of each server at the end. What
	// Save leaves out, only Check can miss.
	Check func(raft.StateMachine) error
}

// Test runs one seed of a simulation with the application on every server, and
// fails the test if something that the library promises does not hold, or if at
// the end the servers' states are not the same: as Save tells them, byte by byte,
// whichever way each server came to its own, by the log, by a snapshot or by both.
// A difference says that Apply, Save or Recovery depend on something else than the
// log and the state: the time, chance, the order of a map.
//
// The machine is also the Context of its server: ctx.Server().Context() in Apply.
// It must not start goroutines or wait for anything outside of the process, because
// all of it happens in a testing/synctest bubble. With SIM_TRACE in the environment
// the run is written there line by line.
func Test(t *testing.T, seed uint64, app Application) {
	t.Helper()
	if report := Run(t, seed, app); report.Failure != "" {
		t.Errorf("seed %d: %s", seed, report.Failure)
	}
}

// Run is Test, and leaves it to the caller what to make of a failure.
func Run(t *testing.T, seed uint64, app Application) *Report {
	return simulate(t, draw(seed, false), func(int) bool { return false }, 0, func(w *world) workload {
		return &application{Application: app, world: w, machines: map[string]raft.StateMachine{}}
	})
}

// simulate runs a plan in a bubble and checks what is to be checked outside.
func simulate(t *testing.T, p *plan, skip func(action int) bool, neighbour uint64, runs func(*world) workload) (report *Report) {
	sink, done := traceSink(t)
	defer done()
	return simulateInto(t, p, skip, neighbour, sink, runs)
}

// simulateInto is simulate, with the trace given to sink.
func simulateInto(t *testing.T, p *plan, skip func(action int) bool, neighbour uint64, sink func([]byte), runs func(*world) workload) (report *Report) {
	var sum uint64
	synctest.Test(t, func(*testing.T) {
		w := newWorld(p, skip, neighbour, sink, runs)
		report = w.run()
		sum = w.trace.sum()
	})
	report.check(sum)
	return report
}

// application is the workload of an Application.
type application struct {
	Application
	world *world

	mu       sync.Mutex
	machines map[string]raft.StateMachine
	sent     int
}

func (a *application) register(registry *raft.Registry) error {
	for _, c := range a.Commands {
		if err := registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (a *application) machine(n *node) (raft.StateMachine, interface{}) {
	m := a.Machine()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.machines[n.name] = m
	if s, ok := m.(raft.StateStreamer); ok {
		return &heldStreamer{held{m, n}, s}, m
	}
	return &held{m, n}, m
}

// held is an application's machine whose Save takes its time, or fails.
type held struct {
	raft.StateMachine
	node *node
}

// Save is StateMachine's.
func (h *held) Save() ([]byte, error) {
	if err := h.node.saves(); err != nil {
		return nil, err
	}
	return h.StateMachine.Save()
}

// heldStreamer is held for one that streams its state.
type heldStreamer struct {
	held
	raft.StateStreamer
}

// FixState is StateStreamer's.
func (h *heldStreamer) FixState() (raft.StateView, error) {
	if err := h.node.saves(); err != nil {
		return nil, err
	}
	return h.StateStreamer.FixState()
}

func (a *application) reset(*node) bool { return false }

func (a *application) foreign() bool { return true }

func (a *application) complete(*node) bool { return true }

func (a *application) done() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sent
}

func (a *application) history() []porcupine.Operation { return nil }

// settle compares the servers' states.
func (a *application) settle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	var first []byte
	for i, n := range a.world.allNodes() {
		state, err := a.machines[n.name].Save()
		switch {
		case err != nil:
			a.world.violated("Save of %s fails: %v", n.name, err)
		case i == 0:
			first = state
		case !bytes.Equal(state, first):
			a.world.violated("the state of %s is not that of %s: the same commands have led to another state", n.name, a.world.allNodes()[0].name)
		}
		if a.Check != nil {
			if err := a.Check(a.machines[n.name]); err != nil {
				a.world.violated("the state of %s: %v", n.name, err)
			}
		}
	}
}

// user is a client of an application.
type user struct {
	app  *application
	rand *rand.Rand
}

func (a *application) client(id int) worker {
	return &user{a, dice(a.world.plan.seed, "client", id)}
}

func (u *user) work(ctx context.Context) {
	w := u.app.world
	for ctx.Err() == nil {
		w.wait(ctx, time.Duration(u.rand.ExpFloat64()*float64(w.plan.pause))+1)
		if leader := w.leader(); leader != nil && ctx.Err() == nil {
			u.send(leader)
		}
	}
}

func (u *user) send(server raft.Server) bool {
	w := u.app.world
	ctx, cancel := context.WithTimeout(context.Background(), 4*w.plan.election)
	defer cancel()
	_, err := server.DoContext(ctx, u.app.Command(u.rand))
	w.trace.printf("a client on %s: %v", server.Name(), err)
	u.app.mu.Lock()
	defer u.app.mu.Unlock()
	u.app.sent++
	// Any other error is what Apply has returned: then the command was applied.
	var failed *raft.CommandError
	return !errors.As(err, &failed)
}
