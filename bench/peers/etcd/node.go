package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// These are etcd's.
const (
	tick            = 100 * time.Millisecond
	electionTicks   = 10
	maxSizePerMsg   = 1 << 20
	maxInflightMsgs = 512
	dialTimeout     = time.Second + electionTicks*tick
	readTimeout     = 5 * time.Minute
)

// clusterID has no meaning but that all servers have the same.
const clusterID = 1

// member is where a server listens.
type member struct {
	id       uint64
	listener net.Listener
}

func (m member) url() string { return "http://" + m.listener.Addr().String() }

// node is one server.
type node struct {
	id        uint64
	dir       string
	raft      raft.Node
	entries   *raft.MemoryStorage
	log       *wal.WAL
	transport *rafthttp.Transport
	http      *http.Server
	answers   []chan struct{} // by the number of the client

	applies chan []*raftpb.Entry
	stop    chan struct{}
	wait    sync.WaitGroup

	once   sync.Once
	failed chan struct{} // closed when err is set
	err    error
}

// startNode starts the server m, one of the members.
func startNode(m member, members []member, dir string, clients int) (*node, error) {
	n := &node{
		id: m.id, dir: dir, entries: raft.NewMemoryStorage(),
		applies: make(chan []*raftpb.Entry, 64), stop: make(chan struct{}), failed: make(chan struct{}),
	}
	for range clients {
		n.answers = append(n.answers, make(chan struct{}, 1))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if n.log, err = wal.Create(zap.NewNop(), filepath.Join(dir, "wal"), nil); err != nil {
		return nil, err
	}
	if err := n.startTransport(m, members); err != nil {
		return nil, errors.Join(err, n.log.Close())
	}
	quiet := &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}
	raft.SetLogger(quiet)
	var peers []raft.Peer
	for _, one := range members {
		peers = append(peers, raft.Peer{ID: one.id})
	}
	n.raft = raft.StartNode(&raft.Config{
		ID: n.id, Storage: n.entries, Logger: quiet,
		ElectionTick: electionTicks, HeartbeatTick: 1,
		MaxSizePerMsg: maxSizePerMsg, MaxInflightMsgs: maxInflightMsgs,
		CheckQuorum: true, PreVote: true,
	}, peers)
	n.wait.Go(n.loop)
	n.wait.Go(n.apply)
	go func() { _ = n.http.Serve(m.listener) }() // ends with close, and says so
	for _, one := range members {
		if one.id != n.id {
			n.transport.AddPeer(types.ID(one.id), []string{one.url()})
		}
	}
	return n, nil
}

// startTransport makes all that can be made before there is a raft.Node.
func (n *node) startTransport(m member, members []member) error {
	urls, err := types.NewURLs([]string{m.url()})
	if err != nil {
		return err
	}
	id := types.ID(n.id)
	n.transport = &rafthttp.Transport{
		Logger: zap.NewNop(), DialTimeout: dialTimeout,
		ID: id, URLs: urls, ClusterID: clusterID, Raft: n,
		Snapshotter: snap.New(zap.NewNop(), n.dir),
		ServerStats: stats.NewServerStats(id.String(), id.String()),
		LeaderStats: stats.NewLeaderStats(zap.NewNop(), id.String()),
		ErrorC:      make(chan error, 1), // for who has been removed: nobody
	}
	if err := n.transport.Start(); err != nil {
		return err
	}
	n.http = &http.Server{Handler: n.transport.Handler(), ReadTimeout: readTimeout, ErrorLog: log.New(io.Discard, "", 0)}
	return nil
}

// Process is rafthttp.Raft's.
func (n *node) Process(ctx context.Context, m *raftpb.Message) error { return n.raft.Step(ctx, m) }

// IsIDRemoved is rafthttp.Raft's.
func (n *node) IsIDRemoved(uint64) bool { return false }

// ReportUnreachable is rafthttp.Raft's.
func (n *node) ReportUnreachable(id uint64) { n.raft.ReportUnreachable(id) }

// ReportSnapshot is rafthttp.Raft's.
func (n *node) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	n.raft.ReportSnapshot(id, status)
}

// fail tells the clients that they need not wait any longer.
func (n *node) fail(err error) {
	n.once.Do(func() {
		n.err = err
		close(n.failed)
	})
}

// close ends the server. The loop is still there while the transport ends, because
// the transport waits for Process.
func (n *node) close() error {
	n.transport.Stop()
	err := n.http.Close()
	close(n.stop)
	n.wait.Wait()
	n.raft.Stop()
	return errors.Join(err, n.log.Close())
}
