//go:build simulation

package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goraft/raft"
)

// world is one run: servers, what lies between them, clients, a nemesis, and all
// that is checked.
type world struct {
	plan      *plan
	neighbour uint64
	skip      func(action int) bool
	trace     *trace
	cluster   *raft.Cluster
	watch     *watch
	workload  workload
	workers   []worker
	late      []func() // to be waited for when the faults are over
	tasks     sync.WaitGroup
	unbroken  context.Context // until the run has failed
	fail      context.CancelFunc

	mu        sync.Mutex
	nodes     []*node
	failures  []string
	counts    map[string]int
	returning int // members that have left or lost their store, until they vote again
	paused    time.Duration
}

// maxFailures is how many failures of a run are told.
const maxFailures = 5

// violated fails the run.
func (w *world) violated(format string, args ...any) {
	failure := fmt.Sprintf(format, args...)
	w.trace.printf("VIOLATED %s", failure)
	defer w.fail()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failures) < maxFailures {
		w.failures = append(w.failures, failure)
	}
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.failures) > 0
}

// noticed is what has failed so far.
func (w *world) noticed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.failures)
}

// count counts what has happened, by kind.
func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// longestPause is for how long a process was suspended, at most: nobody is
// answered meanwhile.
func (w *world) longestPause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paused
}

// wait lets time pass.
func (w *world) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (w *world) node(name string) *node {
	for _, n := range w.allNodes() {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (w *world) allNodes() []*node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes
}

// addNode makes a place for the server of that name.
func (w *world) addNode(name string) *node {
	r := dice(w.plan.seed, "node "+name, 0)
	n := &node{name: name, world: w, prevote: r.Float64() >= w.plan.prevoteless, bare: r.Float64() < w.plan.bare}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(slices.Clone(w.nodes), n)
	return n
}

// leader is the server that leads the highest term, or nil.
func (w *world) leader() (leader raft.Server) {
	var term uint64
	for _, name := range w.cluster.Names() {
		if s := w.cluster.Server(name); s != nil {
			if status := s.Status(); status.State == raft.Leader && status.Term > term {
				leader, term = s, status.Term
			}
		}
	}
	return leader
}

// newWorld makes the servers of a plan.
func newWorld(p *plan, skip func(int) bool, neighbour uint64, sink func([]byte), runs func(*world) workload) *world {
	w := &world{plan: p, skip: skip, neighbour: neighbour, trace: newTrace(sink), counts: map[string]int{}}
	w.unbroken, w.fail = context.WithCancel(context.Background())
	for _, kind := range kinds() {
		w.counts[kind] = 0 // one that never happens is to be told
	}
	w.trace.printf("seed %d: %v", p.seed, p)
	w.watch = newWatch(w)
	w.workload = runs(w)
	registry := raft.NewRegistry()
	if err := errors.Join(w.workload.register(registry), registry.Register(&reform{})); err != nil {
		w.violated("registering commands: %v", err)
	}
	contexts := map[string]interface{}{}
	for i := range p.servers {
		w.addNode(fmt.Sprintf("s%d", i+1))
	}
	w.cluster = raft.NewCluster(p.servers, raft.ClusterOptions{
		Seed: p.seed, ElectionTimeout: p.election, HeartbeatInterval: p.heartbeat,
		StateMachine: func(name string) raft.StateMachine {
			m, context := w.workload.machine(w.node(name))
			contexts[name] = context
			return m
		},
		Context:   func(name string) interface{} { return contexts[name] },
		Options:   []raft.Option{raft.WithRegistry(registry), raft.WithMaxSegmentBytes(p.segment), raft.WithSnapshotTrigger(p.snapshots, 4<<20)},
		OptionsOf: w.optionsOf,
		Configure: w.configure,
		Transporter: func(name string, memory *raft.MemoryTransporter) raft.Transporter {
			if w.node(name).bare {
				return memory.Bare()
			}
			return memory
		},
	})
	w.weather()
	return w
}

// optionsOf are the options of one server.
func (w *world) optionsOf(name string) []raft.Option {
	n := w.node(name)
	options := []raft.Option{raft.WithObserver(w.watch.observe), raft.WithYield(n.yield)}
	if !n.prevote {
		w.count("servers without pre-vote")
		options = append(options, raft.WithoutPreVote())
	}
	if n.bare {
		w.count("servers with an old transporter")
	}
	return options
}

// configure readies a new life.
func (w *world) configure(name string, _ raft.Server) {
	w.cluster.Disk(name).SetFault(w.node(name).disk)
}

// start begins a life of a server. What an earlier one left behind may be held up,
// and so would be the start, for which it waits: that ends first. A disk without
// the space for a beginning gets it.
func (w *world) start(n *node, start func() error) error {
	n.release()
	var err error
	for range 20 {
		switch err = start(); {
		case errors.Is(err, raft.ErrNoSpace):
			w.cluster.Disk(n.name).SetQuota(nil)
		case !errors.Is(err, raft.ErrStillRunning):
			w.trace.printf("%s starts: %v", n.name, err)
			return err
		}
		w.wait(context.Background(), w.plan.election)
	}
	return err
}

// mustStart is start where nothing may be in the way.
func (w *world) mustStart(n *node, start func() error) {
	n.mayFail.Store(false)
	if err := w.start(n, start); err != nil {
		w.violated("I11: starting %s: %v", n.name, err)
	}
}

// end stops everything.
func (w *world) end() {
	for _, n := range w.allNodes() {
		n.release()
	}
	w.cluster.Close()
	w.tasks.Wait()
}

// String tells how everything stands.
func (w *world) String() string {
	var b strings.Builder
	b.WriteString(w.cluster.String())
	for _, n := range w.allNodes() {
		fmt.Fprintf(&b, "%s's log: %s\n%s's disk:\n", n.name, w.watch.logged(n.name), n.name)
		w.cluster.Disk(n.name).SetFault(nil)
		for _, path := range w.paths(n.name) {
			bytes, err := w.cluster.Disk(n.name).Bytes(path)
			fmt.Fprintf(&b, "  %s: %d bytes, checksum %08x %v\n", path, len(bytes), crc32.ChecksumIEEE(bytes), err)
		}
	}
	return b.String()
}

// paths are the files on a server's disk.
func (w *world) paths(name string) (paths []string) {
	disk := w.cluster.Disk(name)
	var walk func(dir string)
	walk = func(dir string) {
		names, _ := disk.ReadDir(dir)
		for _, base := range names {
			path := dir + "/" + base
			if info, err := disk.Stat(path); err == nil && info.IsDir() {
				walk(path)
			} else {
				paths = append(paths, path)
			}
		}
	}
	walk("/" + name)
	return paths
}

// kinds are all the faults there are.
func kinds() []string {
	all := []string{
		"message lost", "message twice", "message overtaken", "message late", "message replayed", "bits flipped", "message misdelivered",
		"another cluster's messages", "servers without pre-vote", "servers with an old transporter", "held up",
		"damage noticed", "leadership transferred", "states saved", "states restored",
		readsLinearizable, readsAtLeast, readsBounded, readsStale, readsElsewhere, officesVerified,
	}
	for _, a := range actions {
		all = append(all, a.name)
	}
	return all
}

// happened is the counts, by kind.
func (w *world) happened() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.counts)
}
