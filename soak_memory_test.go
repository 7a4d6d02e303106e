package raft

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// memoryFleet is servers on a MemoryNetwork with disks in memory.
type memoryFleet struct {
	*Cluster
	run *soakRun
}

func newMemoryFleet(r *soakRun, servers int) *memoryFleet {
	f := &memoryFleet{run: r}
	dice := r.dice("transport", 0)
	f.Cluster = NewCluster(servers, ClusterOptions{
		Seed: r.seed, ElectionTimeout: r.election, HeartbeatInterval: r.heartbeat,
		StateMachine: func(name string) StateMachine { return r.newStore(name) },
		Context:      func(name string) interface{} { return r.node(name).store.Load() },
		Options:      []Option{WithRegistry(r.registry), WithMaxSegmentBytes(256 << 10), r.trigger()},
		Configure:    f.configure,
		Transporter: func(_ string, memory *MemoryTransporter) Transporter {
			return soakTransporter(dice, memory)
		},
	})
	f.Network().SetForm([]MessageForm{AsStructs, AsProtobuf, AsJSON}[dice.IntN(3)])
	f.Network().SetChecked(dice.IntN(2) == 0)
	f.Network().Intercept(r.watch.sent)
	return f
}

// soakTransporter draws which of a transporter's abilities a server may use.
func soakTransporter(dice *rand.Rand, memory *MemoryTransporter) Transporter {
	switch dice.IntN(6) {
	case 0:
		return memory.Bare()
	case 1:
		return memoryCalls{memory}
	}
	return memory
}

// configure readies a new life: its disk, its listeners, its Init.
func (f *memoryFleet) configure(name string, s Server) {
	node := f.run.node(name)
	f.node(name).disk.Load().SetFault(f.run.diskFault(node))
	f.run.watch.listen(name, s)
	if err := s.Init(); err == nil {
		f.run.watch.initialized(name, s)
	}
}

var errSoakDisk = errors.New("the disk is broken")

// diskFault makes a disk take its time, block and fail as the nemesis says.
func (r *soakRun) diskFault(node *soakNode) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if stall := node.stall.Load(); stall != nil && op.Kind.Changes() {
			<-*stall
		}
		if op.Kind != vfs.OpSync {
			return nil
		}
		if node.diskError.CompareAndSwap(true, false) {
			return errSoakDisk
		}
		dice := rand.New(rand.NewPCG(r.seed^hashNames(node.name, op.Name), uint64(time.Since(r.began))))
		mean := r.election/500 + time.Duration(node.syncTime.Load())
		<-time.After(min(time.Duration(dice.ExpFloat64()*float64(mean)), r.election))
		return nil
	}
}

func (f *memoryFleet) names() []string            { return f.Names() }
func (f *memoryFleet) server(name string) Server  { return f.Server(name) }
func (f *memoryFleet) crash(name string)          { f.Crash(name) }
func (f *memoryFleet) wipe(name string)           { f.run.watch.wiped(name); _ = f.Wipe(name) }
func (f *memoryFleet) start(name string) error    { return f.Start(name) }
func (f *memoryFleet) add() string                { return f.Add() }
func (f *memoryFleet) address(name string) string { return f.ConnectionString(name) }
func (f *memoryFleet) block(from, to string)      { f.Network().Block(from, to) }
func (f *memoryFleet) unblock(from, to string)    { f.Network().Unblock(from, to) }
func (f *memoryFleet) close()                     { f.Close() }

func (f *memoryFleet) delay(least, most time.Duration) { f.Delay(least, max(least, most)) }

func (f *memoryFleet) bootstrap(ctx context.Context) error { return f.Bootstrap(ctx) }

// fill leaves a disk no space, or little.
func (f *memoryFleet) fill(name string) (end func()) {
	node := f.node(name)
	disk := node.disk.Load()
	left := disk.Used() % 3 * 8 << 10
	disk.SetQuota(&vfs.Quota{Bytes: disk.Used() + left, Entries: left == 0})
	return func() { node.disk.Load().SetQuota(nil) }
}

// memoryFaults are the faults that only a memoryFleet has.
func memoryFaults(f *memoryFleet) []soakFault {
	network := f.Network()
	return []soakFault{
		{"loss", "loss", 4, func(n *soakNemesis) func() {
			network.SetStreamLoss([]StreamLoss{StreamBreaks, StreamStalls, StreamSkips}[n.rand.IntN(3)])
			network.SetLoss(n.rand.ExpFloat64() / 20)
			return func() { network.SetLoss(0) }
		}},
		{"duplicates", "duplicates", 3, func(n *soakNemesis) func() {
			network.SetDuplicates(n.rand.Float64() / 4)
			return func() { network.SetDuplicates(0) }
		}},
		{"suspension", "suspension", 4, func(n *soakNemesis) func() {
			name := n.some().name
			network.Pause(name)
			return func() { network.Resume(name) }
		}},
		{"blocked disk", "disk", 4, func(n *soakNemesis) func() {
			node := n.some()
			stall := make(chan struct{})
			node.stall.Store(&stall)
			return func() { f.run.release(node) }
		}},
		{"full disk", "", 4, func(n *soakNemesis) func() { return f.fill(n.some().name) }},
		{"full disks", "", 2, func(n *soakNemesis) func() {
			var ends []func()
			for _, name := range f.names() {
				ends = append(ends, f.fill(name))
			}
			return func() {
				for _, end := range ends {
					end()
				}
			}
		}},
		{"slow disk", "", 5, func(n *soakNemesis) func() {
			node := n.some()
			node.syncTime.Store(int64(n.rand.ExpFloat64() * float64(n.run.election) / 10))
			return func() { node.syncTime.Store(0) }
		}},
		{"crash behind the quorum", "", 3, crashBehindQuorum},
		{"broken disk", "disk", 3, breakDisk},
		{"transporter", "", 3, func(n *soakNemesis) func() {
			name := n.some().name
			change := func(choose func(*MemoryTransporter) Transporter) {
				if life := f.node(name).life.Load(); life != nil {
					life.server.SetTransporter(choose(life.transport))
				}
			}
			change(func(m *MemoryTransporter) Transporter { return soakTransporter(n.rand, m) })
			return func() { change(func(m *MemoryTransporter) Transporter { return m }) }
		}},
	}
}

// breakDisk fails a disk's next sync, which ends the server; then it crashes.
func breakDisk(n *soakNemesis) func() {
	node := n.take()
	if node == nil {
		return nil
	}
	node.mayFail.Store(true)
	node.diskError.Store(true)
	return func() {
		node.diskError.Store(false)
		n.crash(node)()
	}
}

// crashBehindQuorum takes the power from all while the leader's disk is behind
// and half of the others are cut off: what is acknowledged then is on just as
// many disks as it must be.
func crashBehindQuorum(n *soakNemesis) func() {
	leader := n.run.leader()
	if leader == nil {
		return nil
	}
	n.run.node(leader.Name()).syncTime.Store(int64(n.run.election / 3))
	var cut []string
	for _, name := range n.run.fleet.names() {
		if name != leader.Name() && len(cut) < leader.MemberCount()/2 {
			cut = append(cut, name)
			n.run.fleet.block(leader.Name(), name)
		}
	}
	n.run.wait(context.Background(), time.Duration(n.rand.Int64N(int64(n.run.election)/2)))
	end := n.crashAll()
	n.run.node(leader.Name()).syncTime.Store(0)
	for _, name := range cut {
		n.run.fleet.unblock(leader.Name(), name)
	}
	return end
}
