// Dragonboat is github.com/lni/dragonboat/v4 with a NodeHost for every server, one
// shard, a regular state machine in memory, and proposals without a session.
//
// The log is in the default LogDB, 16 pebble stores of which the one shard uses one;
// engine, transport and queues are as they come, too. What has no default is as in
// the documentation: a round trip of 100 ms stands for a tick, heartbeats are sent at
// each and elections begin after ten. CheckQuorum and PreVote are on, as in the other
// systems. No snapshot is taken while the system is measured, and nothing is logged.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/goraft/raft/bench/load"
	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftio"
)

// readyWithin is how long the start of the cluster may take, and answeredWithin how
// long a proposal may at the end of a run.
const (
	readyWithin    = 30 * time.Second
	answeredWithin = 30 * time.Second
)

func main() { load.Main(start) }

// cluster is all the servers. The replica with the number i+1 is on the i-th host.
type cluster struct {
	config load.Config
	hosts  []*dragonboat.NodeHost
	leader atomic.Uint64 // the replica that leads, when all are ready
	moved  atomic.Bool   // whether another one has become the leader since
	ctx    context.Context
	cancel context.CancelFunc
}

func start(c load.Config) (load.System, error) {
	if c.Workload != load.Write {
		return nil, load.ErrWorkload{Workload: c.Workload}
	}
	beQuiet()
	all := &cluster{config: c}
	// A proposal without a deadline is refused, and a context for each of them would
	// be at the expense of what is measured.
	all.ctx, all.cancel = context.WithTimeout(context.Background(), readyWithin+c.Warmup+c.Window+answeredWithin)
	if err := all.start(); err != nil {
		return nil, errors.Join(err, all.Close())
	}
	return all, nil
}

func (all *cluster) start() error {
	addresses, err := freeAddresses(all.config.Servers)
	if err != nil {
		return err
	}
	members := make(map[uint64]dragonboat.Target)
	for i, address := range addresses {
		members[uint64(i+1)] = address
	}
	for i, address := range addresses {
		dir := filepath.Join(all.config.Dir, fmt.Sprint("n", i+1))
		host, err := dragonboat.NewNodeHost(hostConfig(address, dir, all))
		if err != nil {
			return err
		}
		all.hosts = append(all.hosts, host)
		if err := host.StartReplica(members, false, newCounter, replicaConfig(uint64(i+1))); err != nil {
			return err
		}
	}
	return all.ready()
}

// freeAddresses are addresses on loopback at which nobody listens. A NodeHost must
// know the addresses of all before the first of them listens.
func freeAddresses(count int) (addresses []string, err error) {
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}

// ready waits until all servers know the same leader and have its log.
func (all *cluster) ready() error {
	ctx, cancel := context.WithTimeout(all.ctx, readyWithin)
	defer cancel()
	for ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
		leader, _, known, err := all.hosts[0].GetLeaderID(shard)
		if err != nil {
			return err
		}
		if !known {
			continue
		}
		all.leader.Store(leader)
		all.moved.Store(false)
		if all.even(ctx, leader) && !all.moved.Load() {
			return nil
		}
	}
	return errors.New("the servers did not agree on a leader in time")
}

// even says that all servers know this leader and have what it has committed.
func (all *cluster) even(ctx context.Context, leader uint64) bool {
	for _, host := range all.hosts {
		if _, err := host.SyncRead(ctx, shard, nil); err != nil {
			return false
		}
		if id, _, known, err := host.GetLeaderID(shard); err != nil || !known || id != leader {
			return false
		}
	}
	return true
}

// LeaderUpdated is raftio.IRaftEventListener's.
func (all *cluster) LeaderUpdated(info raftio.LeaderInfo) {
	if leader := all.leader.Load(); leader != 0 && info.LeaderID != leader {
		all.moved.Store(true)
	}
}

var errMoved = errors.New("the leader does not lead any more")

// Client proposes one command again and again at the leader.
func (all *cluster) Client(int) (func(context.Context) error, error) {
	host, command := all.hosts[all.leader.Load()-1], make([]byte, all.config.Size)
	session := host.GetNoOPSession(shard)
	return func(context.Context) error {
		// A server that does not lead would pass the command on.
		if all.moved.Load() {
			return errMoved
		}
		_, err := host.SyncPropose(all.ctx, session, command)
		return err
	}, nil
}

// Close ends all servers.
func (all *cluster) Close() error {
	all.cancel()
	for _, host := range all.hosts {
		host.Close()
	}
	return nil
}
