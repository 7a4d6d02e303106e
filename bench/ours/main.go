// Ours is this library as a program would use it: servers that reach each other by
// HTTPTransporter on loopback, each with its files and a state machine of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/goraft/raft"
	"github.com/goraft/raft/bench/load"
)

// The timeouts are raftd's.
const (
	heartbeatInterval = 100 * time.Millisecond
	electionTimeout   = time.Second
	readyWithin       = 30 * time.Second
)

// stateBytes is how large a state is that a new server is sent.
var stateBytes int64

func main() {
	flag.Int64Var(&stateBytes, "state", 256<<20, "bytes of the state that the workload snapshot sends")
	load.Main(start)
}

// put is a command that carries bytes. Its Decode looks at them and keeps nothing,
// so that what a run allocates is the library's but for the command itself.
type put struct {
	payload []byte
	size    int64
}

// CommandName is Command's.
func (c *put) CommandName() string { return "put" }

// Encode is CommandEncoder's.
func (c *put) Encode(w io.Writer) error {
	_, err := w.Write(c.payload)
	return err
}

// Decode is CommandEncoder's.
func (c *put) Decode(r io.Reader) (err error) {
	c.size, err = io.Copy(io.Discard, r)
	return err
}

// Apply is CommandApply's.
func (c *put) Apply(ctx raft.Context) (interface{}, error) {
	ctx.Server().Context().(*counter).bytes += c.size
	return nil, nil
}

// counter is a state that is cheap to change.
type counter struct{ bytes int64 }

// cluster is all the servers; the first one leads.
type cluster struct {
	config  load.Config
	options []raft.Option
	nodes   []*node
	profile profile
	told    map[string]float64
}

func start(c load.Config) (load.System, error) {
	switch c.Workload {
	case load.Write, load.Read, load.Stalled, load.Snapshot, load.Leader, load.Idle, load.Start:
	default:
		return nil, load.ErrWorkload{Workload: c.Workload}
	}
	all := &cluster{config: c, told: make(map[string]float64)}
	if err := all.start(); err != nil {
		return nil, errors.Join(err, all.Close())
	}
	return all, nil
}

func (all *cluster) start() error {
	registry := raft.NewRegistry()
	if err := registry.Register(&put{}); err != nil {
		return err
	}
	c := all.config
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	all.options = []raft.Option{
		raft.WithRegistry(registry), raft.WithLogger(logger),
		raft.WithHeartbeatInterval(heartbeatInterval), raft.WithElectionTimeout(electionTimeout),
		// What the clients have under way together is no overload.
		raft.WithMaxUncommittedBytes(max(raft.DefaultMaxUncommittedBytes, 2*c.Clients*c.Size)),
	}
	if c.Workload != load.Start { // no system takes snapshots while it is measured
		all.options = append(all.options, raft.WithSnapshotTrigger(0, 0))
	}
	for i := range c.Servers {
		if err := all.grow(c.Workload == load.Stalled && i == c.Servers-1); err != nil {
			return err
		}
	}
	if err := all.ready(); err != nil {
		return err
	}
	switch c.Workload {
	case load.Stalled:
		all.nodes[len(all.nodes)-1].listener.stall()
	case load.Snapshot:
		return all.compact()
	}
	return nil
}

// grow starts one more server and has it join.
func (all *cluster) grow(holds bool) error {
	name, size := fmt.Sprint("n", len(all.nodes)+1), int64(0)
	if all.config.Workload == load.Snapshot {
		size = stateBytes
	}
	n, err := startNode(name, filepath.Join(all.config.Dir, name), holds, &blob{size: size}, all.options...)
	if err != nil {
		return err
	}
	all.nodes = append(all.nodes, n)
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	join := &raft.DefaultJoinCommand{Name: name, ConnectionString: n.url}
	if _, err := all.nodes[0].server.DoContext(ctx, join); err != nil {
		return fmt.Errorf("%s joins: %w", name, err)
	}
	return nil
}

// ready waits until every server is a voter, so that a majority is one of all.
func (all *cluster) ready() error {
	deadline := time.Now().Add(readyWithin)
	for time.Now().Before(deadline) {
		voters := 0
		for _, m := range all.nodes[0].server.Status().Members {
			if m.Voter {
				voters++
			}
		}
		if voters == len(all.nodes) && all.nodes[0].server.State() == raft.Leader {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("the servers did not become voters in time")
}

// Client sends one command again and again to the leader, or reads from it.
func (all *cluster) Client(int) (func(context.Context) error, error) {
	if all.config.Workload == load.Read {
		return all.reader(), nil
	}
	command, leader := &put{payload: make([]byte, all.config.Size)}, all.nodes[0].server
	first := all.config.Workload == load.Leader
	return func(ctx context.Context) error {
		if first {
			first = false
			markClient(ctx)
		}
		_, err := leader.Do(command)
		return err
	}, nil
}

// reader reads the state of the leader again and again.
func (all *cluster) reader() func(context.Context) error {
	leader := all.nodes[0].server
	look := func(raft.StateMachine) error { return nil }
	return func(ctx context.Context) error { return leader.Read(ctx, raft.Linearizable, look) }
}

// Disturb is load.Disturber's.
func (all *cluster) Disturb(ctx context.Context) error {
	if all.config.Workload == load.Start {
		return all.restart()
	}
	return all.send(ctx)
}

// Began is load.Watcher's.
func (all *cluster) Began() error {
	if all.config.Workload != load.Leader {
		return nil
	}
	return all.profile.begin()
}

// Ended is load.Watcher's.
func (all *cluster) Ended() error {
	if all.config.Workload != load.Leader {
		return nil
	}
	return all.profile.end(all.nodes[0].server.Name(), all.told)
}

// Tell is load.Teller's.
func (all *cluster) Tell() map[string]float64 { return all.told }

// Close ends all servers.
func (all *cluster) Close() error {
	var errs []error
	for _, n := range all.nodes {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}
