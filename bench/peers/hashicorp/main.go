// Hashicorp is github.com/hashicorp/raft with github.com/hashicorp/raft-wal as its
// log and stable store, and its own TCP transport.
//
// These settings differ from the defaults. BatchApplyCh is on, MaxAppendEntries is
// 1024, the most that is allowed, and the state machine takes batches: a sync is
// then shared by all commands that wait. A LogCache in front of raft-wal, as in Consul,
// Nomad and Vault, saves the leader from decoding for every follower what it has just
// written; it holds two batches. LeaderLeaseTimeout is 1 s, the most that is allowed,
// because a machine whose processors are all busy is late now and then, and a run
// that loses its leader is lost. NoLegacyTelemetry is on: metrics go nowhere. No
// snapshot is taken while the system is measured, and nothing is logged. The other
// timeouts (1 s), two requests in flight per follower and segments of 64 MiB are the
// defaults.
package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/goraft/raft/bench/load"
	"github.com/hashicorp/raft"
)

// readyWithin is how long the start of the cluster may take.
const readyWithin = 30 * time.Second

func main() { load.Main(start) }

// cluster is all the servers.
type cluster struct {
	config load.Config
	nodes  []*node
	leader *node
}

func start(c load.Config) (load.System, error) {
	if c.Workload != load.Write {
		return nil, load.ErrWorkload{Workload: c.Workload}
	}
	all := &cluster{config: c}
	if err := all.start(); err != nil {
		return nil, errors.Join(err, all.Close())
	}
	return all, nil
}

func (all *cluster) start() error {
	var members raft.Configuration
	for i := range all.config.Servers {
		name := fmt.Sprint("n", i+1)
		n, err := newNode(name, filepath.Join(all.config.Dir, name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all.nodes = append(all.nodes, n)
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(name), Address: n.transport.LocalAddr()})
	}
	for _, n := range all.nodes {
		if err := n.start(members); err != nil {
			return err
		}
	}
	return all.ready()
}

// ready waits until one of the servers leads and all others have its log.
func (all *cluster) ready() error {
	deadline := time.Now().Add(readyWithin)
	for time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
		for _, n := range all.nodes {
			if n.raft.State() == raft.Leader {
				all.leader = n
			}
		}
		// The barrier fails while nobody leads yet, or when this one does no more.
		if all.leader != nil && all.leader.raft.Barrier(readyWithin).Error() == nil && all.even() {
			return nil
		}
	}
	return errors.New("the servers did not agree on a leader in time")
}

// even says that all servers have the leader's log.
func (all *cluster) even() bool {
	for _, n := range all.nodes {
		if n.raft.LastIndex() != all.leader.raft.LastIndex() || n.raft.Leader() != all.leader.transport.LocalAddr() {
			return false
		}
	}
	return true
}

// Client sends one command again and again to the leader.
func (all *cluster) Client(int) (func(context.Context) error, error) {
	command, leader := make([]byte, all.config.Size), all.leader.raft
	return func(context.Context) error { return leader.Apply(command, 0).Error() }, nil
}

// Close ends all servers.
func (all *cluster) Close() error {
	var errs []error
	for _, n := range all.nodes {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}
