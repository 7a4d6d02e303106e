//go:build simulation

package simulation

import (
	"context"
	"log/slog"

	"github.com/goraft/raft"
	"github.com/goraft/raft/internal/vfs"
)

// strangers lets another cluster on the network: a server that bears the name of
// one of ours, founds a cluster of its own and takes some more of our names for its
// members. What it sends them reaches our servers, which must not heed a word.
func (w *world) strangers() (end func()) {
	if !w.plan.strangers {
		return func() {}
	}
	r := dice(w.plan.seed, "strangers", 0)
	names := w.cluster.Names()
	transport := w.cluster.Network().Transporter("stranger")
	server, err := raft.NewServer(names[r.IntN(len(names))], "/stranger", transport, nil, nil, "memory://stranger",
		raft.WithLogger(slog.New(slog.DiscardHandler)), raft.WithFileSystem(vfs.NewMem()), raft.WithSeed(r.Uint64),
		raft.WithHeartbeatInterval(w.plan.heartbeat), raft.WithElectionTimeout(w.plan.election))
	if err == nil {
		transport.Install(server)
		err = server.Start()
	}
	if err != nil {
		w.violated("starting the stranger: %v", err)
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.tasks.Go(func() {
		for _, name := range append([]string{server.Name()}, names...) {
			_, err := server.DoContext(ctx, &raft.DefaultJoinCommand{Name: name, ConnectionString: w.cluster.ConnectionString(name)})
			w.trace.printf("the stranger joins %s: %v", name, err)
			w.count("another cluster's messages")
			w.wait(ctx, w.plan.election)
		}
	})
	return func() {
		cancel()
		server.Stop()
		transport.Close()
	}
}
