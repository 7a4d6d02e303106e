package raft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// reform has the leader of the day carry out a command about a member, until it
// has or the context ends. A refusal for want of a quorum is for now.
func (r *soakRun) reform(ctx context.Context, command Command) (done bool) {
	for ctx.Err() == nil {
		if leader := r.leader(); leader != nil {
			_, err := leader.DoContext(ctx, command)
			if err == nil {
				return true
			}
			for _, known := range []error{NotLeaderError, StopError, ErrLeadershipLost, ErrLost, ErrNoSpace, ErrNoQuorum, ErrPeerNotFound} {
				if errors.Is(err, known) {
					err = nil
				}
			}
			if err != nil && ctx.Err() == nil {
				r.violated("%s: %v", command.CommandName(), err)
				return false
			}
		}
		r.wait(ctx, r.election/3)
	}
	return false
}

// joinOf is the command that joins a server.
func (r *soakRun) joinOf(name string) Command {
	return &DefaultJoinCommand{Name: name, ConnectionString: r.fleet.address(name)}
}

// join takes a server into the cluster, on a goroutine of its own: it may have to
// wait for a leader. It must be done soon after the last fault.
func (r *soakRun) join(name string, command Command, joined func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.tasks.Go("join", func() {
		defer close(ended)
		if r.reform(ctx, command) {
			joined(ctx)
		}
	})
	r.late = append(r.late, func() {
		defer cancel()
		select {
		case <-ended:
		case <-time.After(60 * r.election):
			r.violated("%s did not become a member", name)
		}
	})
}

// joinOne takes one more server into the cluster.
func joinOne(n *soakNemesis) func() {
	r := n.run
	if n.joins == 0 {
		return nil
	}
	n.joins--
	name := r.fleet.add()
	node := r.addNode(name)
	if err := r.fleet.start(name); err != nil {
		r.violated("starting %s: %v", name, err)
		return nil
	}
	node.life.Add(1)
	r.join(name, r.joinOf(name), func(context.Context) {})
	return func() {}
}

// sound reports whether every member that the leader knows votes from the store
// that its name is bound to, and nothing is under way that concerns members: then
// the cluster can lose one for good.
func (r *soakRun) sound(least int) bool {
	leader := r.leader()
	if leader == nil || r.returning.Load() > 0 {
		return false
	}
	status := leader.Status()
	for _, m := range status.Members {
		if !m.Voter || m.StoreID == 0 {
			return false
		}
	}
	return len(status.Members) >= least && len(status.Members) == len(r.allNodes()) && status.ConfigurationIndex <= status.CommitIndex
}

// back counts a server as gone until it votes again.
func (r *soakRun) back(name string, command Command) {
	r.join(name, command, func(ctx context.Context) {
		// What an Apply asks for is done later: so is a leave that went before.
		for r.wait(ctx, 2*r.election); ctx.Err() == nil && !r.votes(name); r.wait(ctx, 2*r.election) {
			if _, queued := command.(*soakReform); queued {
				r.reform(ctx, command) // it may have been refused for want of a quorum
			}
		}
		r.returning.Add(-1)
	})
}

// votes reports whether the leader knows the server for a voter from the store
// that it has.
func (r *soakRun) votes(name string) bool {
	leader, s := r.leader(), r.fleet.server(name)
	if leader == nil || s == nil {
		return false
	}
	status := leader.Status()
	return status.ConfigurationIndex <= status.CommitIndex && slices.ContainsFunc(status.Members, func(m MemberStatus) bool {
		return m.Name == name && m.Voter && m.StoreID == s.StoreID()
	})
}

// leaveAndReturn removes a member, which goes on running, and later joins it again
// with what it has.
func leaveAndReturn(n *soakNemesis) func() {
	return n.removeAndReturn(func(name string) (leave, join Command) {
		return &DefaultLeaveCommand{Name: name}, n.run.joinOf(name)
	})
}

// removeAndReturn has one command remove a member, and later another join it again.
func (n *soakNemesis) removeAndReturn(commands func(name string) (leave, join Command)) func() {
	r := n.run
	if !r.sound(3) {
		return nil
	}
	r.returning.Add(1)
	name := n.some().name
	leave, join := commands(name)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.tasks.Go("leave", func() {
		defer close(ended)
		r.reform(ctx, leave)
	})
	return func() {
		cancel()
		<-ended
		r.back(name, join)
	}
}

// wipeAndReturn loses a member's disk, and joins what begins anew in its place.
func wipeAndReturn(n *soakNemesis) func() {
	r := n.run
	if !r.sound(3) {
		return nil
	}
	node := n.take()
	if node == nil {
		return nil
	}
	r.returning.Add(1)
	node.life.Add(1)
	r.fleet.crash(node.name)
	r.fleet.wipe(node.name)
	return func() {
		node.mayFail.Store(false)
		r.startAgain(node, func() error { return r.fleet.start(node.name) })
		node.life.Add(1)
		node.busy = false
		r.back(node.name, r.joinOf(node.name))
	}
}

// soakReform is a command whose Apply asks for a change of the members.
type soakReform struct {
	Leave         bool
	Name, Address string
}

// CommandName is Command's.
func (c *soakReform) CommandName() string { return "soak:reform" }

// Apply checks that every server is told the same.
func (c *soakReform) Apply(ctx Context) (interface{}, error) {
	ask := func() error { return ctx.Server().AddPeer(c.Name, c.Address) }
	if c.Leave {
		ask = func() error { return ctx.Server().RemovePeer(c.Name) }
	}
	told := fmt.Sprintf("%+v: %v", *c, ask())
	store := ctx.Server().Context().(*soakStore)
	o := store.oracle
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told == nil {
		o.told = map[uint64]string{}
	}
	if before, known := o.told[ctx.CurrentIndex()]; known && before != told {
		o.run.violated("%s: Apply of %d was told %q, elsewhere %q", store.name, ctx.CurrentIndex(), told, before)
	}
	o.told[ctx.CurrentIndex()] = told
	return nil, nil
}

// leaveByCommand has a command's Apply remove a member, and others join it again.
func leaveByCommand(n *soakNemesis) func() {
	return n.removeAndReturn(func(name string) (leave, join Command) {
		return &soakReform{Leave: true, Name: name}, &soakReform{Name: name, Address: n.run.fleet.address(name)}
	})
}
