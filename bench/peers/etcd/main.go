// Etcd is go.etcd.io/raft with the write-ahead log and the transport of
// go.etcd.io/etcd/server, put together as etcd does it: the leader sends before it
// saves (§10.2.1 of the Raft thesis), a follower saves before it answers and sends
// only the last of its answers, and committed entries are applied beside the loop
// that does this. The settings are etcd's: ticks of 100 ms, elections after ten,
// pre-vote, check-quorum, 512 messages of at most 1 MiB in flight, segments of
// 64 MiB, the 5000 newest entries kept in memory.
//
// It differs from etcd in what is not log and replication. The state is a counter, and
// no snapshot is taken: the log in memory is therefore compacted only up to what
// all followers have, every 10000 entries, where etcd also leaves a slow follower
// behind. A command is the client's payload after eight bytes that name who waits;
// every client has one channel for all of its answers, which costs less than etcd's
// table of waiters. Nothing is logged.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/goraft/raft/bench/load"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
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
	var members []member
	for i := range all.config.Servers {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		members = append(members, member{uint64(i + 1), listener})
	}
	for _, m := range members {
		n, err := startNode(m, members, filepath.Join(all.config.Dir, fmt.Sprint("n", m.id)), all.config.Clients)
		if err != nil {
			return fmt.Errorf("n%d: %w", m.id, err)
		}
		all.nodes = append(all.nodes, n)
	}
	return all.ready()
}

// ready waits until one of the servers leads and all others have its log.
func (all *cluster) ready() error {
	deadline := time.Now().Add(readyWithin)
	for time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
		for _, n := range all.nodes {
			status := n.raft.Status()
			if status.RaftState == raft.StateLeader && even(status) && n.transport.ActivePeers() == len(all.nodes)-1 {
				all.leader = n
				return nil
			}
		}
	}
	return errors.New("the servers did not agree on a leader in time")
}

// even says that a leader with this status has applied all that it knows, and that
// every server has it.
func even(leader raft.Status) bool {
	for _, p := range leader.Progress {
		if p.State != tracker.StateReplicate || p.Match != leader.Applied {
			return false
		}
	}
	return true
}

// Client proposes one command again and again at the leader.
func (all *cluster) Client(number int) (func(context.Context) error, error) {
	n := all.leader
	command, answer := make([]byte, idSize+all.config.Size), n.answers[number]
	binary.BigEndian.PutUint32(command, uint32(n.id))
	binary.BigEndian.PutUint32(command[4:], uint32(number))
	return func(ctx context.Context) error {
		if err := n.raft.Propose(ctx, command); err != nil {
			return err
		}
		select {
		case <-answer:
			return nil
		case <-n.failed:
			return n.err
		}
	}, nil
}

// Close ends all servers.
func (all *cluster) Close() error {
	var errs []error
	for _, n := range all.nodes {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}
