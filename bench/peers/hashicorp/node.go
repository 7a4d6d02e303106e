package main

import (
	"errors"
	"io"
	"math"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

const (
	maxAppendEntries = 1024
	cachedEntries    = 2 * maxAppendEntries
	leaderLease      = time.Second
	connectionsKept  = 3 // as in Consul, like the next
	ioTimeout        = 10 * time.Second
)

// node is one server. Its raft is nil until it is started.
type node struct {
	name      string
	transport *raft.NetworkTransport
	log       *wal.WAL
	raft      *raft.Raft
}

func newNode(name, dir string) (*node, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	transport, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, connectionsKept, ioTimeout, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	log, err := wal.Open(dir, wal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		return nil, errors.Join(err, transport.Close())
	}
	return &node{name: name, transport: transport, log: log}, nil
}

// start begins with the given members. Every one of them does, which is allowed
// because all are given the same.
func (n *node) start(members raft.Configuration) error {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.name)
	c.Logger = hclog.NewNullLogger()
	c.NoLegacyTelemetry = true
	c.BatchApplyCh = true
	c.MaxAppendEntries = maxAppendEntries
	c.LeaderLeaseTimeout = leaderLease
	c.SnapshotThreshold = math.MaxUint64
	c.SnapshotInterval = 24 * time.Hour
	cache, err := raft.NewLogCache(cachedEntries, n.log)
	if err != nil {
		return err
	}
	snapshots := raft.NewDiscardSnapshotStore() // it is given none
	if err := raft.BootstrapCluster(c, cache, n.log, snapshots, n.transport, members); err != nil {
		return err
	}
	n.raft, err = raft.NewRaft(c, new(counter), cache, n.log, snapshots, n.transport)
	return err
}

func (n *node) close() error {
	var err error
	if n.raft != nil {
		err = n.raft.Shutdown().Error()
	}
	return errors.Join(err, n.transport.Close(), n.log.Close())
}

// counter is a state that is cheap to change.
type counter struct{ bytes int64 }

// Apply is raft.FSM's.
func (c *counter) Apply(l *raft.Log) any {
	c.bytes += int64(len(l.Data))
	return nil
}

// ApplyBatch is raft.BatchingFSM's.
func (c *counter) ApplyBatch(logs []*raft.Log) []any {
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			c.Apply(l)
		}
	}
	return make([]any, len(logs))
}

var errNoSnapshots = errors.New("no snapshots while the system is measured")

// Snapshot is raft.FSM's.
func (c *counter) Snapshot() (raft.FSMSnapshot, error) { return nil, errNoSnapshots }

// Restore is raft.FSM's.
func (c *counter) Restore(io.ReadCloser) error { return errNoSnapshots }
