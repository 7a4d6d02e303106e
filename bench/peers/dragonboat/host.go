package main

import (
	"errors"
	"io"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/statemachine"
)

// shard is the only one there is.
const shard = 1

// The clock of the servers.
const (
	tickMilliseconds = 100
	heartbeatTicks   = 1
	electionTicks    = 10
)

// beQuiet leaves of the logs only what comes before a panic.
func beQuiet() {
	for _, name := range []string{
		"LogDB", "config", "dragonboat", "gossip", "logdb", "pebblekv", "raft", "raft-mt", "raftpb",
		"registry", "rsm", "server", "settings", "tan", "tools", "transport",
	} {
		logger.GetLogger(name).SetLevel(logger.CRITICAL)
	}
}

func hostConfig(address, dir string, listener raftio.IRaftEventListener) config.NodeHostConfig {
	return config.NodeHostConfig{
		NodeHostDir: dir, RaftAddress: address, RTTMillisecond: tickMilliseconds, RaftEventListener: listener,
	}
}

func replicaConfig(id uint64) config.Config {
	return config.Config{
		ReplicaID: id, ShardID: shard, HeartbeatRTT: heartbeatTicks, ElectionRTT: electionTicks,
		CheckQuorum: true, PreVote: true, WaitReady: true,
	}
}

// counter is a state that is cheap to change.
type counter struct{ bytes int64 }

func newCounter(shard, replica uint64) statemachine.IStateMachine { return new(counter) }

// Update is statemachine.IStateMachine's.
func (c *counter) Update(e statemachine.Entry) (statemachine.Result, error) {
	c.bytes += int64(len(e.Cmd))
	return statemachine.Result{}, nil
}

// Lookup is statemachine.IStateMachine's.
func (c *counter) Lookup(any) (any, error) { return c.bytes, nil }

var errNoSnapshots = errors.New("no snapshots while the system is measured")

// SaveSnapshot is statemachine.IStateMachine's.
func (c *counter) SaveSnapshot(io.Writer, statemachine.ISnapshotFileCollection, <-chan struct{}) error {
	return errNoSnapshots
}

// RecoverFromSnapshot is statemachine.IStateMachine's.
func (c *counter) RecoverFromSnapshot(io.Reader, []statemachine.SnapshotFile, <-chan struct{}) error {
	return errNoSnapshots
}

// Close is statemachine.IStateMachine's.
func (c *counter) Close() error { return nil }
