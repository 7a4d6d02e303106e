package raft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// soakFleet is the servers of a soak and what lies between them.
type soakFleet interface {
	bootstrap(ctx context.Context) error
	names() []string
	server(name string) Server // nil if it is down
	crash(name string)         // ends a server as loss of power does
	start(name string) error   // begins another life
	add() (name string)
	wipe(name string) // of one that has crashed
	address(name string) string
	block(from, to string)
	unblock(from, to string)
	delay(least, most time.Duration)
	close()
}

// soakRun is clients, servers and a nemesis, and all that is checked while they
// are at work and afterwards.
type soakRun struct {
	t                   *testing.T
	seed                uint64
	began               time.Time
	election, heartbeat time.Duration
	joins               int // servers to join during the run
	registry            *Registry
	fleet               soakFleet
	oracle              *soakOracle
	watch               *soakWatch
	tasks               tasks
	late                []func() // to be waited for at the end

	mu         sync.Mutex
	nodes      []*soakNode
	notes      []string // what the nemesis did lately
	violations atomic.Int64
	saved      atomic.Int64 // states
	restored   atomic.Int64
	returning  atomic.Int64 // members that have left or lost their store, until they vote again
}

// trigger is how often the servers take snapshots: often, in most runs.
func (r *soakRun) trigger() Option {
	return WithSnapshotTrigger([]uint64{0, 10, 40, 150}[r.dice("trigger", 0).IntN(4)], 4<<20)
}

func newSoakRun(t *testing.T, seed uint64, election time.Duration) *soakRun {
	r := &soakRun{t: t, seed: seed, began: time.Now(), election: election, heartbeat: election / 4, registry: NewRegistry()}
	r.oracle = &soakOracle{run: r}
	r.watch = newSoakWatch(r)
	require.NoError(t, r.registry.Register(&soakCommand{}))
	require.NoError(t, r.registry.Register(&soakReform{}))
	return r
}

// dice are the random numbers of one actor.
func (r *soakRun) dice(actor string, number uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.seed, hashNames(actor)+number))
}

// violated fails the test; of many failures it tells the first.
func (r *soakRun) violated(format string, args ...any) {
	if n := r.violations.Add(1); n <= 5 {
		r.t.Errorf("seed %d: "+format, append([]any{r.seed}, args...)...)
	}
}

// note remembers what happened, for the report of a failure.
func (r *soakRun) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notes) == 60 {
		r.notes = r.notes[1:]
	}
	r.notes = append(r.notes, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

// wait lets time pass.
func (r *soakRun) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (r *soakRun) addNode(name string) *soakNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := &soakNode{name: name}
	n.life.Store(1) // begins
	r.nodes = append(slices.Clone(r.nodes), n)
	return n
}

func (r *soakRun) allNodes() []*soakNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes
}

func (r *soakRun) node(name string) *soakNode {
	nodes := r.allNodes()
	return nodes[slices.IndexFunc(nodes, func(n *soakNode) bool { return n.name == name })]
}

// newStore is the state machine of a server's next life.
func (r *soakRun) newStore(name string) *soakStore {
	node := r.node(name)
	store := &soakStore{name: name, oracle: r.oracle, slow: &node.slow}
	node.store.Store(store)
	return store
}

// leader is the server that leads the highest term, or nil.
func (r *soakRun) leader() (leader Server) {
	var term uint64
	for _, name := range r.fleet.names() {
		if s := r.fleet.server(name); s != nil {
			if status := s.Status(); status.State == Leader && status.Term > term {
				leader, term = s, status.Term
			}
		}
	}
	return leader
}

// release ends the blocking of a node's disk.
func (r *soakRun) release(node *soakNode) {
	if stall := node.stall.Swap(nil); stall != nil {
		close(*stall)
	}
}

// startAgain starts a server. What the last life left behind may be blocked by
// the nemesis, and so would be the start, for which it waits: it lets go.
func (r *soakRun) startAgain(node *soakNode, start func() error) {
	r.release(node)
	node.syncTime.Store(0)
	node.slow.left.Store(0)
	err := start()
	for try := 0; err != nil && try < 20; try++ {
		if !errors.Is(err, ErrStillRunning) {
			break
		}
		r.wait(context.Background(), r.election)
		err = start()
	}
	if err != nil {
		r.violated("starting %s: %v", node.name, err)
	}
}

// soakClients is how many there are.
const soakClients = 6

// soak runs everything for a time, then heals and settles.
func (r *soakRun) soak(length, pause time.Duration, faults []soakFault) string {
	defer r.end()
	for _, name := range r.fleet.names() {
		r.addNode(name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*r.election)
	err := r.fleet.bootstrap(ctx)
	cancel()
	require.NoError(r.t, err)
	for _, n := range r.allNodes() {
		n.life.Add(1)
	}
	ctx, cancel = context.WithTimeout(context.Background(), length)
	defer cancel()
	watching, look := context.WithCancel(context.Background())
	defer look()
	r.tasks.Go("watch", func() { r.watch.watch(watching, r.heartbeat/10) })
	working, rest := context.WithCancel(context.Background())
	defer rest()
	var clients []*soakClient
	var work tasks
	for id := range uint64(soakClients) {
		c := newSoakClient(r, id)
		clients = append(clients, c)
		work.Go("client", func() { c.work(working, pause) })
	}
	nemesis := newSoakNemesis(r, faults)
	nemesis.rage(ctx)
	rest()
	if !work.endWithin(20 * r.election) {
		r.violated("clients still wait")
		return ""
	}
	r.settle(clients)
	look()
	return r.summary(clients, nemesis, time.Since(r.began))
}

// settle checks that all is well soon after the last fault.
func (r *soakRun) settle(clients []*soakClient) {
	for _, late := range r.late {
		late()
	}
	r.within(20*r.election, "to agree", r.converged)
	for _, c := range clients {
		r.within(20*r.election, "to take a command", func() bool {
			leader := r.leader()
			return leader != nil && c.send(leader)
		})
	}
	r.within(20*r.election, "to agree again", r.converged)
	for _, n := range r.allNodes() {
		if s := r.fleet.server(n.name); s.Err() != nil {
			r.violated("%s: %v", n.name, s.Err())
		} else if s.MemberCount() != len(r.allNodes()) {
			r.violated("%s knows %d members", n.name, s.MemberCount())
		}
	}
	r.oracle.settle(clients)
}

// within waits for a condition, but not for long.
func (r *soakRun) within(d time.Duration, what string, condition func() bool) {
	deadline := time.Now().Add(d)
	for !condition() {
		if time.Now().After(deadline) {
			r.violated("the servers were not able %s within %v", what, d)
			return
		}
		r.wait(context.Background(), r.heartbeat/10)
	}
}

// converged reports whether all servers have the same log, applied.
func (r *soakRun) converged() bool {
	leader := r.leader()
	if leader == nil {
		return false
	}
	want := leader.Status()
	for _, n := range r.allNodes() {
		s := r.fleet.server(n.name)
		if s == nil {
			return false
		}
		got := s.Status()
		if got.Term != want.Term || got.Leader != want.Name || got.LastIndex != want.LastIndex || got.LastTerm != want.LastTerm ||
			got.CommitIndex != want.LastIndex || got.LastApplied != want.LastIndex || !n.store.Load().complete() {
			return false
		}
	}
	return true
}

// end stops everything, and tells about a failure what there is to tell.
func (r *soakRun) end() {
	if r.t.Failed() {
		r.t.Logf("SOAK_SEED=%d; lately:\n%s", r.seed, strings.Join(r.notes, "\n"))
		for _, name := range r.fleet.names() {
			if s := r.fleet.server(name); s != nil {
				r.t.Logf("%+v", s.Status())
			}
		}
	}
	for _, n := range r.allNodes() {
		r.release(n)
		n.syncTime.Store(0)
		n.slow.left.Store(0)
	}
	r.fleet.close()
	r.tasks.Wait()
}

// summary tells what was done.
func (r *soakRun) summary(clients []*soakClient, nemesis *soakNemesis, took time.Duration) string {
	told := map[string]int{}
	var longest time.Duration
	for _, c := range clients {
		for what, n := range c.told {
			told[what] += n
		}
		longest = max(longest, c.longest)
	}
	if told["applied"] == 0 {
		r.violated("no command was ever applied")
	}
	return fmt.Sprintf("%v, %d leaders, %d states saved, %d pieces sent, %d restored, longest call %v\n  commands: %s\n  faults: %s",
		took.Round(time.Second), r.watch.changes, r.saved.Load(), r.watch.pieces.Load(), r.restored.Load(),
		longest.Round(time.Millisecond), soakCounts(told), soakCounts(nemesis.summary()))
}

func soakCounts(counts map[string]int) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", what, counts[what]))
	}
	return strings.Join(parts, ", ")
}

// soakSeeds is the seeds of a run: SOAK_SEED alone, or as many as SEEDS says.
func soakSeeds(t *testing.T, count int) []uint64 {
	if s := os.Getenv("SOAK_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return []uint64{seed}
	}
	first := 1
	if s := os.Getenv("SEEDS"); s != "" {
		_, err := fmt.Sscanf(s, "%d-%d", &first, &count)
		if err != nil {
			first = 1
			count, err = strconv.Atoi(s)
		}
		require.NoError(t, err)
	}
	var seeds []uint64
	for seed := first; seed < first+count; seed++ {
		seeds = append(seeds, uint64(seed))
	}
	return seeds
}

// TestSoakShort soaks clusters in fake time: a few seeds, or as many as SEEDS
// says (SEEDS=1000, or SEEDS=5000-1000 for a thousand from 5000 on).
func TestSoakShort(t *testing.T) {
	length := 60 * DefaultElectionTimeout
	if raceDetector { // under which TestSoak does more of this
		length /= 4
	}
	for _, seed := range soakSeeds(t, 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newSoakRun(t, seed, DefaultElectionTimeout)
				r.joins = int(seed % 3)
				fleet := newMemoryFleet(r, []int{3, 3, 3, 5}[seed%4])
				r.fleet = fleet
				t.Log(r.soak(length, r.election/10, slices.Concat(soakFaults(), memoryFaults(fleet))))
			})
		})
	}
}

// soakRound bounds how long one cluster of TestSoak lives: starts become slow
// with the length of its log.
const soakRound = time.Minute

// TestSoak soaks clusters in real time for as long as SOAK says: two thirds of it
// in memory, the rest over HTTP on loopback and on real files.
func TestSoak(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("SOAK says for how long, as in SOAK=5m")
	}
	length, err := time.ParseDuration(os.Getenv("SOAK"))
	require.NoError(t, err)
	seed := soakSeeds(t, 1)[0]
	if os.Getenv("SOAK_SEED") == "" {
		seed = rand.Uint64()
	}
	const election = 2 * DefaultElectionTimeout
	for rest := length; rest > 0; rest -= soakRound {
		round := min(rest, soakRound)
		t.Logf("SOAK_SEED=%d", seed)
		t.Run("memory", func(t *testing.T) {
			soakReally(t, func() string {
				r := newSoakRun(t, seed, election)
				r.joins = 2
				fleet := newMemoryFleet(r, 3)
				r.fleet = fleet
				return r.soak(round*2/3, election/30, slices.Concat(soakFaults(), memoryFaults(fleet)))
			})
		})
		t.Run("HTTP", func(t *testing.T) {
			soakReally(t, func() string {
				r := newSoakRun(t, seed, election)
				r.joins = 1
				r.fleet = newHTTPFleet(r, 3, t.TempDir())
				return r.soak(round/3, election/30, soakFaults())
			})
		})
		seed++
	}
}

// soakReally runs a soak and checks that it leaves neither goroutines nor much
// memory behind.
func soakReally(t *testing.T, soak func() string) {
	before := runtime.NumGoroutine()
	t.Log(soak())
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-deadline:
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
	// What lay in a pool, and all that it holds on to, goes with the second
	// collection after its last use.
	runtime.GC()
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	require.Less(t, memory.HeapAlloc, uint64(32<<20))
}
