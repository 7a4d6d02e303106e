//go:build simulation

package simulation

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/goraft/raft"
	"github.com/goraft/raft/internal/vfs"
)

// memberships are the actions on who belongs to the cluster.
func memberships() []action {
	return []action{
		{"join", "members", join},
		{"leave", "members", func(n *nemesis) func() {
			return n.leave(func(name string) (leave, join raft.Command) {
				return &raft.DefaultLeaveCommand{Name: name}, n.world.joinOf(name)
			}, n.some)
		}},
		{"leader leaves", "members", func(n *nemesis) func() {
			return n.leave(func(name string) (leave, join raft.Command) {
				return &raft.DefaultLeaveCommand{Name: name}, n.world.joinOf(name)
			}, func() *node {
				if leader := n.world.leader(); leader != nil {
					return n.world.node(leader.Name())
				}
				return n.some()
			})
		}},
		{"leave by command", "members", func(n *nemesis) func() {
			return n.leave(func(name string) (leave, join raft.Command) {
				return &reform{Leave: true, Name: name}, &reform{Name: name, Address: n.world.cluster.ConnectionString(name)}
			}, n.some)
		}},
		{"wipe", "members", wipe},
	}
}

// joinOf is the command that joins a server.
func (w *world) joinOf(name string) raft.Command {
	return &raft.DefaultJoinCommand{Name: name, ConnectionString: w.cluster.ConnectionString(name)}
}

// change has the leader of the day carry out a command about a member, until it
// has or the context ends. A refusal for want of a quorum is for now.
func (w *world) change(ctx context.Context, command raft.Command) (done bool) {
	for ctx.Err() == nil {
		if leader := w.leader(); leader != nil {
			_, err := leader.DoContext(ctx, command)
			w.trace.printf("%s to %s: %v", command.CommandName(), leader.Name(), err)
			if err == nil {
				return true
			}
			known := slices.ContainsFunc([]error{
				raft.NotLeaderError, raft.StopError, raft.ErrLeadershipLost, raft.ErrLost, raft.ErrNoSpace, raft.ErrNoQuorum, raft.ErrPeerNotFound, raft.ErrOverloaded,
			}, func(cause error) bool { return errors.Is(err, cause) })
			if !known && ctx.Err() == nil {
				w.violated("I12: %s: %v", command.CommandName(), err)
				return false
			}
		}
		w.wait(ctx, w.plan.election/3)
	}
	return false
}

// eventually does something about a member on a goroutine of its own: it may have
// to wait for a leader. It must be done soon after the last fault.
func (w *world) eventually(what string, f func(ctx context.Context) bool) {
	ctx, cancel := context.WithCancel(w.unbroken)
	ended := make(chan struct{})
	w.tasks.Go(func() {
		defer close(ended)
		f(ctx)
	})
	w.late = append(w.late, func() {
		defer cancel()
		timer := time.NewTimer(60 * w.plan.election)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
			w.violated("I11: %s did not come to pass", what)
		}
	})
}

// join takes one more server into the cluster.
func join(n *nemesis) func() {
	w := n.world
	if n.joins == 0 {
		return nil
	}
	n.joins--
	name := w.cluster.Add()
	node := w.addNode(name)
	w.mustStart(node, func() error { return w.cluster.Start(name) })
	w.eventually("the joining of "+name, func(ctx context.Context) bool { return w.change(ctx, w.joinOf(name)) })
	return func() {}
}

// sound reports whether every member that the leader knows votes from the store
// that its name is bound to, and nothing is under way that concerns members: then
// the cluster can lose one for good.
func (w *world) sound(least int) bool {
	leader := w.leader()
	w.mu.Lock()
	returning := w.returning
	w.mu.Unlock()
	if leader == nil || returning > 0 {
		return false
	}
	status := leader.Status()
	for _, m := range status.Members {
		if !m.Voter || m.StoreID == 0 {
			return false
		}
	}
	return len(status.Members) >= least && len(status.Members) == len(w.allNodes()) && status.ConfigurationIndex <= status.CommitIndex
}

// takeSound takes a server that the cluster can lose for good, or nil: none while
// there are strangers, who would take in one with an empty disk.
func (n *nemesis) takeSound(least int) *node {
	if n.world.plan.strangers || !n.world.sound(least) {
		return nil
	}
	node := n.take()
	if node != nil {
		n.world.away(1)
	}
	return node
}

func (w *world) away(by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.returning += by
}

// votes reports whether the leader knows the server for a voter from the store
// that it has.
func (w *world) votes(name string) bool {
	leader, s := w.leader(), w.cluster.Server(name)
	if leader == nil || s == nil {
		return false
	}
	status := leader.Status()
	return status.ConfigurationIndex <= status.CommitIndex && slices.ContainsFunc(status.Members, func(m raft.MemberStatus) bool {
		return m.Name == name && m.Voter && m.StoreID == s.StoreID()
	})
}

// back has a server join, which counts as gone until it votes again, when its
// leave has ended: who asked a process for it that is suspended is held up, too.
func (w *world) back(name string, command raft.Command, left <-chan struct{}) {
	w.eventually("the return of "+name, func(ctx context.Context) bool {
		<-left
		if !w.change(ctx, command) {
			return false
		}
		// What an Apply asks for is done later: so is a leave that went before.
		for w.wait(ctx, 2*w.plan.election); ctx.Err() == nil && !w.votes(name); w.wait(ctx, 2*w.plan.election) {
			if _, queued := command.(*reform); queued {
				w.change(ctx, command) // it may have been refused for want of a quorum
			}
		}
		w.away(-1)
		return true
	})
}

// leave removes a member, which goes on running, and later joins it again with what
// it has.
func (n *nemesis) leave(commands func(name string) (leave, join raft.Command), choose func() *node) func() {
	w := n.world
	if !w.sound(3) {
		return nil
	}
	w.away(1)
	name := choose().name
	leave, join := commands(name)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	w.tasks.Go(func() {
		defer close(ended)
		w.change(ctx, leave)
	})
	return func() {
		cancel()
		w.back(name, join, ended)
	}
}

// wipe loses a member's disk, and joins what begins anew in its place.
func wipe(n *nemesis) func() {
	node := n.takeSound(3)
	if node == nil {
		return nil
	}
	n.fell(node, vfs.Nothing)
	return func() { n.anew(node) }
}

// over is something that has ended.
var over = func() <-chan struct{} {
	ended := make(chan struct{})
	close(ended)
	return ended
}()

// anew gives a server that is down an empty disk and joins it.
func (n *nemesis) anew(node *node) {
	w := n.world
	if err := w.cluster.Wipe(node.name); err != nil {
		w.violated("wiping %s: %v", node.name, err)
	}
	w.watch.forgets(node.name)
	w.trace.printf("%s is wiped", node.name)
	n.rise(node)
	w.back(node.name, w.joinOf(node.name), over)
}

// halt stops a server in order, for good.
func (n *nemesis) halt(node *node) {
	n.world.cluster.Stop(node.name)
	n.world.watch.ends(node.name)
	n.world.trace.printf("%s has stopped", node.name)
}

// doubt starts a server whose disk may not hold what it has promised. If it takes
// notice, it is given an empty disk and joins; if it does not, its votes are not
// heard until it has everything again, or the leader has fenced it.
func (n *nemesis) doubt(node *node) {
	w := n.world
	lost := cmp.Or(w.watch.forgets(node.name), &mirror{})
	node.mayFail.Store(true)
	if err := w.start(node, func() error { return w.cluster.Start(node.name) }); err != nil {
		w.count("damage noticed")
		n.anew(node)
		return
	}
	node.busy = false
	node.silenced.Store(true)
	w.eventually("the recovery of "+node.name, func(ctx context.Context) bool {
		for ; ctx.Err() == nil; w.wait(ctx, w.plan.heartbeat) {
			s, leader := w.cluster.Server(node.name), w.leader()
			if s == nil || leader == nil {
				continue
			}
			// What a leader that is ready has committed is all that the lost promises
			// were good for.
			now, its := s.Status(), leader.Status()
			if its.Ready && its.Term >= lost.last.Term && now.Term == its.Term && now.DurableIndex >= its.CommitIndex && w.votes(node.name) {
				node.silenced.Store(false)
				w.away(-1)
				return true
			}
		}
		return false
	})
}

// reform is a command whose Apply asks for a change of the members.
type reform struct {
	Leave         bool
	Name, Address string
}

// CommandName is Command's.
func (c *reform) CommandName() string { return "simulation:reform" }

// Encode is CommandEncoder's.
func (c *reform) Encode(w io.Writer) error { return json.NewEncoder(w).Encode(c) }

// Decode is CommandEncoder's.
func (c *reform) Decode(r io.Reader) error { return json.NewDecoder(r).Decode(c) }

// Apply is CommandApply's.
func (c *reform) Apply(ctx raft.Context) (interface{}, error) {
	ask := func() error { return ctx.Server().AddPeer(c.Name, c.Address) }
	if c.Leave {
		ask = func() error { return ctx.Server().RemovePeer(c.Name) }
	}
	err := ask()
	return fmt.Sprint(err), nil
}
