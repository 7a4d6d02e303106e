//go:build simulation

package simulation

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// node is a server's place in a world: what outlives its lives, and what the
// nemesis does to it.
type node struct {
	name    string
	world   *world
	machine atomic.Pointer[machine]
	prevote bool
	bare    bool

	gate      atomic.Pointer[chan struct{}] // holds up all its goroutines while it is set
	stall     atomic.Pointer[chan struct{}] // holds up its disk
	applyGate atomic.Pointer[chan struct{}] // holds up Apply
	slowness  atomic.Int64                  // of some Applies
	slowLeft  atomic.Int64                  // so many
	panics    atomic.Bool                   // the next one
	saveGate  atomic.Pointer[chan struct{}] // holds up Save
	slowSave  atomic.Int64
	failSave  atomic.Bool
	syncTime  atomic.Int64               // what a sync takes on average, besides
	broken    atomic.Pointer[brokenCall] // fails one call to the disk
	silenced  atomic.Bool                // its votes are lost on the way
	mayFail   atomic.Bool                // this life may stop by itself

	busy bool // with something that decides its life; the nemesis' own
}

// brokenCall is a call to the disk that fails.
type brokenCall struct {
	kind func(vfs.OpKind) bool
	err  error
}

var (
	errDisk     = errors.New("simulation: the disk is broken")
	isSync      = func(k vfs.OpKind) bool { return k == vfs.OpSync || k == vfs.OpSyncDir }
	isWrite     = func(k vfs.OpKind) bool { return k == vfs.OpWrite }
	isRead      = func(k vfs.OpKind) bool { return k == vfs.OpRead }
	shortWrites = func(n int) error { return &vfs.ShortWrite{N: n, Err: syscall.EIO} }
)

// open shuts a gate and returns what opens it again.
func shut(gate *atomic.Pointer[chan struct{}]) (open func()) {
	closed := make(chan struct{})
	if !gate.CompareAndSwap(nil, &closed) {
		return nil
	}
	return func() {
		if gate.CompareAndSwap(&closed, nil) {
			close(closed)
		}
	}
}

// opens opens a gate, whoever shut it.
func opens(gate *atomic.Pointer[chan struct{}]) {
	if closed := gate.Swap(nil); closed != nil {
		close(*closed)
	}
}

// release ends everything that holds up the node.
func (n *node) release() {
	opens(&n.gate)
	opens(&n.stall)
	opens(&n.applyGate)
	opens(&n.saveGate)
	n.panics.Store(false)
	n.syncTime.Store(0)
	n.slowLeft.Store(0)
	n.slowSave.Store(0)
	n.failSave.Store(false)
	n.broken.Store(nil)
}

// chance is a number that depends on the node, the moment and what it is for, and
// not on which of the goroutines that are ready at this moment comes first.
func (n *node) chance(what string) *rand.Rand {
	return dice(n.world.plan.seed, n.name+what, int(n.world.trace.now()))
}

// disk is what the node's disk does with every call.
func (n *node) disk(op vfs.Op) error {
	if gate := n.stall.Load(); gate != nil && op.Kind.Changes() {
		<-*gate
	}
	if b := n.broken.Load(); b != nil && b.kind(op.Kind) && n.broken.CompareAndSwap(b, nil) {
		n.world.trace.printf("%s: %v fails with %v", n.name, op, b.err)
		return b.err
	}
	if op.Kind == vfs.OpSync {
		mean := float64(n.world.plan.sync + time.Duration(n.syncTime.Load()))
		took := time.Duration(n.chance(op.Name).ExpFloat64() * mean)
		<-time.After(1 + min(took, 2*n.world.plan.election))
	}
	return nil
}

// yield is what happens at the library's hand-over points: a process that is
// suspended stays there, and by chance another goroutine comes first.
func (n *node) yield(point string) {
	if gate := n.gate.Load(); gate != nil {
		<-*gate
	}
	w := n.world
	if point == "apply" && w.workload.foreign() {
		n.slowed()
	}
	rate := w.plan.yields
	if rate == 0 && w.neighbour > 0 {
		rate = 100 // a neighbour of a run without any
	}
	if rate == 0 {
		return
	}
	h := w.plan.seed + w.neighbour*fnvPrime
	for _, c := range []byte(n.name + point) {
		h = (h ^ uint64(c)) * fnvPrime
	}
	h = (h ^ uint64(w.trace.now())) * 0x9e3779b97f4a7c15
	h ^= h >> 29
	switch h % rate {
	case 0:
		w.count("held up")
		time.Sleep(1 + time.Duration(h>>32)%(w.plan.heartbeat/100))
	case 1:
		runtime.Gosched()
	}
}
