package raft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// ClusterOptions say what servers a Cluster makes. The zero value will do.
type ClusterOptions struct {
	// Seed decides everything that chance does: clusters with equal seeds draw
	// alike.
	Seed uint64
	// StateMachine and Context make what each life of a server is given; the
	// servers of a nil function have none.
	StateMachine func(name string) StateMachine
	Context      func(name string) interface{}
	// ElectionTimeout and HeartbeatInterval are the defaults where they are zero.
	ElectionTimeout   time.Duration
	HeartbeatInterval time.Duration
	// Options are given to every server, and OptionsOf to that of the name. The
	// servers log nothing unless WithLogger is among them.
	Options   []Option
	OptionsOf func(name string) []Option
	// Transporter may put something else between a server and its end of the
	// network, such as MemoryTransporter.Bare does.
	Transporter func(name string, memory *MemoryTransporter) Transporter
	// Configure is called with each server before it starts.
	Configure func(name string, server Server)
	// SyncDelay is how long a disk takes to make something durable, at least;
	// each time is drawn from one to two times of it.
	SyncDelay time.Duration
}

// Cluster is a set of servers in this process, each with a disk in memory, on one
// MemoryNetwork, for tests of what an application makes of this package:
//
//	cluster := raft.NewCluster(3, raft.ClusterOptions{StateMachine: newMachine})
//	defer cluster.Close()
//	err := cluster.Bootstrap(ctx)
//	value, err := cluster.Do(ctx, &myCommand{})
//
// The names of the servers are s1, s2 and so on. Whatever waits does so until it
// is fulfilled or the context ends, by the clock of package time, so that all of
// it works in a testing/synctest bubble and outside.
//
// What changes a server's life (Add, Start, Stop, Crash, Restart, Wipe, Close)
// must be called by one goroutine at a time; the rest may be called by any.
type Cluster struct {
	options ClusterOptions
	network *MemoryNetwork
	nodes   atomic.Pointer[[]*clusterNode]
}

// clusterNode is one server's place: what outlives its lives.
type clusterNode struct {
	name  string
	lives atomic.Uint64
	disk  atomic.Pointer[vfs.Mem]
	life  atomic.Pointer[clusterLife] // nil while it is down
}

// clusterLife is a server from its start to its end.
type clusterLife struct {
	server    Server
	transport *MemoryTransporter
}

// NewCluster returns a cluster of n servers that are not started.
func NewCluster(n int, options ClusterOptions) *Cluster {
	if options.ElectionTimeout <= 0 {
		options.ElectionTimeout = DefaultElectionTimeout
	}
	if options.HeartbeatInterval <= 0 {
		options.HeartbeatInterval = min(DefaultHeartbeatInterval, options.ElectionTimeout/3)
	}
	c := &Cluster{options: options, network: NewMemoryNetwork(options.Seed)}
	c.nodes.Store(new([]*clusterNode))
	for range n {
		c.Add()
	}
	return c
}

// Network is what connects the servers.
func (c *Cluster) Network() *MemoryNetwork { return c.network }

// Names are the names of all servers, started or not.
func (c *Cluster) Names() []string {
	var names []string
	for _, n := range *c.nodes.Load() {
		names = append(names, n.name)
	}
	return names
}

// Add makes room for one more server, which is not started, and returns its name.
func (c *Cluster) Add() string {
	nodes := *c.nodes.Load()
	n := &clusterNode{name: fmt.Sprintf("s%d", len(nodes)+1)}
	n.disk.Store(vfs.NewMem())
	nodes = append(slices.Clone(nodes), n)
	c.nodes.Store(&nodes)
	return n.name
}

func (c *Cluster) node(name string) *clusterNode {
	for _, n := range *c.nodes.Load() {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Server returns the server of that name, or nil if it is not started.
func (c *Cluster) Server(name string) Server {
	if n := c.node(name); n != nil {
		if life := n.life.Load(); life != nil {
			return life.server
		}
	}
	return nil
}

// Servers returns the servers that are started, by name.
func (c *Cluster) Servers() map[string]Server {
	servers := make(map[string]Server)
	for _, name := range c.Names() {
		if server := c.Server(name); server != nil {
			servers[name] = server
		}
	}
	return servers
}

// ConnectionString is what the servers call the address of the server of that
// name.
func (c *Cluster) ConnectionString(name string) string { return "memory://" + name }

// Start makes a server from what is on its disk and starts it.
func (c *Cluster) Start(name string) error {
	n := c.node(name)
	switch {
	case n == nil:
		return fmt.Errorf("raft: cluster: no server %q", name)
	case n.life.Load() != nil:
		return fmt.Errorf("raft: cluster: %s is started already", name)
	}
	life, err := c.create(n)
	if err != nil {
		return err
	}
	if c.options.Configure != nil {
		c.options.Configure(name, life.server)
	}
	life.transport.Install(life.server)
	n.life.Store(life)
	if err := life.server.Start(); err != nil {
		n.life.Store(nil)
		life.transport.Close()
		life.server.Stop()
		return fmt.Errorf("raft: cluster: %s: %w", name, err)
	}
	return nil
}

// create makes the server of a new life.
func (c *Cluster) create(n *clusterNode) (*clusterLife, error) {
	seed := c.seed(n, n.lives.Add(1))
	disk := n.disk.Load()
	if c.options.SyncDelay > 0 {
		disk.SetFault(slowSync(c.options.SyncDelay, seed))
	}
	options := append([]Option{
		WithLogger(slog.New(slog.DiscardHandler)),
		WithElectionTimeout(c.options.ElectionTimeout), WithHeartbeatInterval(c.options.HeartbeatInterval),
	}, c.options.Options...)
	if c.options.OptionsOf != nil {
		options = append(options, c.options.OptionsOf(n.name)...)
	}
	options = append(options, withFileSystem(disk), withSeed(seed))
	memory := c.network.Transporter(n.name)
	var transporter Transporter = memory
	if c.options.Transporter != nil {
		transporter = c.options.Transporter(n.name, memory)
	}
	var machine StateMachine
	if c.options.StateMachine != nil {
		machine = c.options.StateMachine(n.name)
	}
	var context interface{}
	if c.options.Context != nil {
		context = c.options.Context(n.name)
	}
	server, err := NewServer(n.name, "/"+n.name, transporter, machine, context, c.ConnectionString(n.name), options...)
	if err != nil {
		return nil, fmt.Errorf("raft: cluster: %s: %w", n.name, err)
	}
	return &clusterLife{server: server, transport: memory}, nil
}

// seed returns a source of numbers for one life of a server, which any goroutine
// may draw from.
func (c *Cluster) seed(n *clusterNode, life uint64) func() uint64 {
	var drawn atomic.Uint64
	name := hashNames(n.name)
	return func() uint64 {
		return rand.NewPCG(c.options.Seed^name, life<<32|drawn.Add(1)).Uint64()
	}
}

// slowSync makes every sync of a disk take its time.
func slowSync(least time.Duration, seed func() uint64) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			<-time.After(least + time.Duration(seed()%uint64(least)))
		}
		return nil
	}
}

// StartAll starts every server that is not started.
func (c *Cluster) StartAll() error {
	for _, name := range c.Names() {
		if c.Server(name) == nil {
			if err := c.Start(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Stop stops a server in order. Nothing happens if it is not started.
func (c *Cluster) Stop(name string) {
	n := c.node(name)
	if n == nil {
		return
	}
	if life := n.life.Swap(nil); life != nil {
		life.server.Stop()
		life.transport.Close()
	}
}

// Crash ends a server as the loss of its machine's power does: from now on it
// neither sends nor writes, and of what it had written and not made durable any
// part may be lost.
func (c *Cluster) Crash(name string) {
	n := c.node(name)
	if n == nil {
		return
	}
	seed := c.seed(n, n.lives.Load())
	c.crash(n, vfs.Random(rand.New(rand.NewPCG(seed(), ^seed()))))
}

// crash ends a server; choose says what is left on its disk.
func (c *Cluster) crash(n *clusterNode, choose vfs.Chooser) {
	life := n.life.Swap(nil)
	if life != nil {
		life.transport.Close()
	}
	n.disk.Store(n.disk.Load().Crash(choose))
	if life != nil {
		life.server.Stop() // of the process, nothing is left either
	}
}

// Restart starts a server again, after it has stopped it if need be.
func (c *Cluster) Restart(name string) error {
	c.Stop(name)
	return c.Start(name)
}

// Wipe gives a server that is not started an empty disk.
func (c *Cluster) Wipe(name string) error {
	n := c.node(name)
	if n == nil || n.life.Load() != nil {
		return fmt.Errorf("raft: cluster: %s is unknown or started", name)
	}
	n.disk.Store(vfs.NewMem())
	return nil
}

// Close stops every server and the network.
func (c *Cluster) Close() {
	for _, name := range c.Names() {
		c.Stop(name)
	}
	c.network.Close()
}

// Partition, Isolate, Heal and Delay are the network's Partition, Isolate, Heal
// and SetDelay.
func (c *Cluster) Partition(groups ...[]string) { c.network.Partition(groups...) }

// Isolate cuts a server off: see MemoryNetwork.Isolate.
func (c *Cluster) Isolate(name string) { c.network.Isolate(name) }

// Heal ends the network's faults: see MemoryNetwork.Heal.
func (c *Cluster) Heal() { c.network.Heal() }

// Delay sets how long messages take: see MemoryNetwork.SetDelay.
func (c *Cluster) Delay(least, most time.Duration) { c.network.SetDelay(least, most) }

// Bootstrap starts all servers as one cluster: each is given the same list by
// AddPeer, then the first one is told to join itself. It returns when there is a
// leader that is ready.
func (c *Cluster) Bootstrap(ctx context.Context) error {
	if err := c.StartAll(); err != nil {
		return err
	}
	names := c.Names()
	for _, name := range names {
		for _, peer := range names {
			if err := c.Server(name).AddPeer(peer, c.ConnectionString(peer)); err != nil {
				return fmt.Errorf("raft: cluster: %s: adding %s: %w", name, peer, err)
			}
		}
	}
	if err := c.found(ctx, names[0]); err != nil {
		return err
	}
	_, err := c.WaitForLeader(ctx)
	return err
}

// BootstrapByJoins starts all servers one after the other: the first founds the
// cluster alone, and the others join it. It returns when all of them vote.
func (c *Cluster) BootstrapByJoins(ctx context.Context) error {
	for i, name := range c.Names() {
		if err := c.Start(name); err != nil {
			return err
		}
		if i == 0 {
			if err := c.found(ctx, name); err != nil {
				return err
			}
		} else if err := c.Join(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// found has a server begin a cluster.
func (c *Cluster) found(ctx context.Context, name string) error {
	_, err := c.Server(name).DoContext(ctx, &DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)})
	if err != nil {
		return fmt.Errorf("raft: cluster: %s: founding: %w", name, err)
	}
	return nil
}

// Join has the leader take a started server into the cluster, and waits until it
// votes.
func (c *Cluster) Join(ctx context.Context, name string) error {
	if _, err := c.Do(ctx, &DefaultJoinCommand{Name: name, ConnectionString: c.ConnectionString(name)}); err != nil {
		return fmt.Errorf("raft: cluster: %s: joining: %w", name, err)
	}
	return c.Wait(ctx, name+" to vote", func() bool {
		leader := c.Leader()
		if leader == nil {
			return false
		}
		status := leader.Status()
		return status.ConfigurationIndex <= status.CommitIndex &&
			slices.ContainsFunc(status.Members, func(m MemberStatus) bool { return m.Name == name && m.Voter })
	})
}

// Leave has the leader remove a server from the cluster, and waits until that is
// committed. The server goes on running.
func (c *Cluster) Leave(ctx context.Context, name string) error {
	if _, err := c.Do(ctx, &DefaultLeaveCommand{Name: name}); err != nil {
		return fmt.Errorf("raft: cluster: %s: leaving: %w", name, err)
	}
	return nil
}

// Leader returns the leader of the highest term that is ready, or nil. It may be
// one that does not know yet that it was deposed.
func (c *Cluster) Leader() Server {
	var leader Server
	var term uint64
	for _, name := range c.Names() {
		server := c.Server(name)
		if server == nil {
			continue
		}
		if status := server.Status(); status.State == Leader && status.Ready && status.Term > term {
			leader, term = server, status.Term
		}
	}
	return leader
}

// WaitForLeader waits until there is a Leader.
func (c *Cluster) WaitForLeader(ctx context.Context) (leader Server, err error) {
	err = c.Wait(ctx, "a leader", func() bool {
		leader = c.Leader()
		return leader != nil
	})
	return leader, err
}

// WaitForApplied waits until every started server has applied the entry at that
// index.
func (c *Cluster) WaitForApplied(ctx context.Context, index uint64) error {
	return c.Wait(ctx, fmt.Sprintf("entry %d to be applied", index), func() bool {
		for _, server := range c.Servers() {
			if server.Status().LastApplied < index {
				return false
			}
		}
		return true
	})
}

// WaitForConverged waits until there is a leader, and every started server that is
// a member of its cluster follows it and has stored and applied all that it has.
func (c *Cluster) WaitForConverged(ctx context.Context) error {
	return c.Wait(ctx, "all servers to agree", func() bool {
		leader := c.Leader()
		if leader == nil {
			return false
		}
		want := leader.Status()
		for name, server := range c.Servers() {
			if !slices.ContainsFunc(want.Members, func(m MemberStatus) bool { return m.Name == name }) {
				continue
			}
			s := server.Status()
			if s.Term != want.Term || s.Leader != want.Name || s.LastIndex != want.LastIndex || s.LastTerm != want.LastTerm ||
				s.CommitIndex != want.LastIndex || s.LastApplied != want.LastIndex {
				return false
			}
		}
		return true
	})
}

// Wait waits until the condition holds, and asks for it many times within a
// heartbeat interval; what names it in the error.
func (c *Cluster) Wait(ctx context.Context, what string, condition func() bool) error {
	interval := max(c.options.HeartbeatInterval/10, 100*time.Microsecond)
	// The first look waits for the servers to have done what they do at this
	// instant, so that in a bubble it is no matter of chance what it sees.
	timer := time.NewTimer(1)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("raft: cluster: waiting for %s: %w\n%s", what, ctx.Err(), c)
		case <-timer.C:
		}
		if condition() {
			return nil
		}
		timer.Reset(interval)
	}
}

// Do has the leader of the day carry out a command and returns what it returns.
// It tries again, until the context ends, as long as the command was certainly
// not applied because of who led or for the moment; a command whose fate is unknown is never tried
// again, so that it is applied at most once.
func (c *Cluster) Do(ctx context.Context, command Command) (interface{}, error) {
	for {
		leader, err := c.WaitForLeader(ctx)
		if err != nil {
			return nil, err
		}
		value, err := leader.DoContext(ctx, command)
		if !errors.Is(err, ErrNotApplied) || ctx.Err() != nil || !worthAnotherTry(err) {
			return value, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(c.options.HeartbeatInterval / 5):
		}
	}
}

// worthAnotherTry reports whether a command was refused only because of who leads,
// or for the moment.
func worthAnotherTry(err error) bool {
	return slices.ContainsFunc([]error{NotLeaderError, StopError, ErrLost, ErrOverloaded, ErrNoSpace}, func(cause error) bool {
		return errors.Is(err, cause)
	})
}

// String tells how every server is, one a line.
func (c *Cluster) String() string {
	var b strings.Builder
	for _, name := range c.Names() {
		server := c.Server(name)
		if server == nil {
			fmt.Fprintf(&b, "%s: down\n", name)
			continue
		}
		s := server.Status()
		fmt.Fprintf(&b, "%s: %s of term %d, leader %q, vote %q, first %d, last %d/%d, durable %d, commit %d, applied %d",
			name, s.State, s.Term, s.Leader, s.VotedFor, s.FirstIndex, s.LastIndex, s.LastTerm, s.DurableIndex, s.CommitIndex, s.LastApplied)
		for _, m := range s.Members {
			fmt.Fprintf(&b, ", %s voter=%t match=%d", m.Name, m.Voter, m.Match)
		}
		if s.Error != "" {
			fmt.Fprintf(&b, ", error %q", s.Error)
		}
		b.WriteByte('\n')
	}
	return b.String() + c.network.String() + "\n"
}
