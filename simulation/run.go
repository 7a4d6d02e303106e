//go:build simulation

package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/goraft/raft"
)

// Report is what a run tells of itself, a line of JSON for each seed.
type Report struct {
	Seed      uint64         `json:"seed"`
	Neighbour uint64         `json:"neighbour"`
	Hash      string         `json:"hash"` // of the trace
	Failure   string         `json:"failure"`
	Virtual   time.Duration  `json:"virtual_ns"`
	Servers   int            `json:"servers"`
	Actions   int            `json:"actions"` // that the nemesis drew
	Skipped   int            `json:"skipped"`
	Faults    map[string]int `json:"faults"`
	Checks    map[string]int `json:"checks"`

	history []porcupine.Operation
}

// run is everything but what must be done outside of the bubble.
func (w *world) run() *Report {
	report := &Report{Seed: w.plan.seed, Neighbour: w.neighbour}
	n := &nemesis{world: w, joins: w.plan.spares}
	limit := 10*w.plan.length + 1000*w.plan.election
	guard := time.AfterFunc(limit, func() {
		panic(fmt.Sprintf("seed %d has not ended after %v; noticed before: %q", w.plan.seed, limit, w.noticed()))
	})
	defer guard.Stop()
	if w.begin() {
		w.act(n)
		if w.heal(); !w.failed() {
			w.settle()
		}
	}
	if w.failed() {
		w.trace.printf("at the end:\n%s", w)
	}
	w.end()
	report.Virtual, report.Servers, report.Actions = w.trace.now(), len(w.allNodes()), n.number
	report.Failure = strings.Join(w.noticed(), "\n")
	report.Faults = w.happened()
	report.Skipped = report.Faults["skipped"]
	delete(report.Faults, "skipped")
	report.Checks = map[string]int{
		"elections": w.watch.elections, "commits": w.watch.commits, "entries": len(w.watch.entries),
	}
	if report.Checks["operations"] = w.workload.done(); report.Failure == "" {
		report.history = w.workload.history()
	}
	return report
}

// begin makes the servers one cluster, which is ready.
func (w *world) begin() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 200*w.plan.election)
	defer cancel()
	if err := w.cluster.Bootstrap(ctx); err != nil {
		w.violated("I11: beginning: %v", err)
		return false
	}
	return true
}

// act is the phase in which everything may happen.
func (w *world) act(n *nemesis) {
	working, rest := context.WithCancel(context.Background())
	defer rest()
	ended := make(chan struct{}, w.plan.clients)
	for id := range w.plan.clients {
		c := w.workload.client(id + 1)
		w.workers = append(w.workers, c)
		w.tasks.Go(func() {
			c.work(working)
			ended <- struct{}{}
		})
	}
	watching, look := context.WithCancel(context.Background())
	defer look()
	w.tasks.Go(func() { w.patrol(watching) })
	leave := w.strangers()
	n.rage()
	leave()
	w.heal()
	rest()
	timer := time.NewTimer(60 * w.plan.election)
	defer timer.Stop()
	for range w.workers {
		select {
		case <-ended:
		case <-timer.C:
			w.violated("I12: a client still waits")
			return
		}
	}
}

// patrol looks for servers that stop by themselves.
func (w *world) patrol(ctx context.Context) {
	for ; ctx.Err() == nil; w.wait(ctx, w.plan.election/3) {
		for _, n := range w.allNodes() {
			s := w.cluster.Server(n.name)
			if s == nil || n.mayFail.Load() {
				continue
			}
			if status := s.Status(); status.UncommittedBytes > raft.DefaultMaxUncommittedBytes {
				w.violated("I14: %s has %d bytes uncommitted", n.name, status.UncommittedBytes)
			}
			if err := s.Err(); err != nil && err != raft.ErrRemoved && !n.mayFail.Load() {
				w.violated("I13: %s stopped by itself: %v", n.name, err)
				return
			}
		}
	}
}

// heal ends what the network and the disks do.
func (w *world) heal() {
	w.clears()
	for _, n := range w.allNodes() {
		n.release()
		w.cluster.Disk(n.name).SetQuota(nil)
	}
	w.settings()
	w.trace.printf("all faults are over")
}

// within waits for a condition, but not for long.
func (w *world) within(timeouts int, what string, condition func() bool) {
	deadline := w.trace.now() + time.Duration(timeouts)*w.plan.election
	for !condition() {
		if w.trace.now() > deadline {
			w.violated("I11: the servers were not able %s within %d election timeouts", what, timeouts)
			return
		}
		w.wait(context.Background(), w.plan.heartbeat/5)
	}
}

// settle is the phase without faults: a leader is found soon, serves everybody,
// and all servers become the same (I11).
func (w *world) settle() {
	w.within(10, "to elect a leader", func() bool {
		leader := w.leader()
		return leader != nil && leader.Status().Ready
	})
	for _, late := range w.late {
		late()
	}
	w.within(40, "to agree", w.converged)
	for _, c := range w.workers {
		w.within(20, "to take a command", func() bool {
			leader := w.leader()
			return leader != nil && c.send(leader)
		})
	}
	w.within(40, "to agree again", w.converged)
	for _, n := range w.allNodes() {
		s := w.cluster.Server(n.name)
		switch {
		case s == nil:
			w.violated("I11: %s is down", n.name)
		case s.Err() != nil:
			w.violated("I11: %s: %v", n.name, s.Err())
		case s.MemberCount() != len(w.allNodes()) || !slices.Equal(members(s), members(w.leader())):
			w.violated("I11: %s knows the members %v, the leader %v", n.name, members(s), members(w.leader()))
		}
	}
	w.workload.settle()
}

// members are those that a server knows, each with what it is.
func members(s raft.Server) (all []string) {
	if s == nil {
		return nil
	}
	for _, m := range s.Status().Members {
		all = append(all, fmt.Sprintf("%s at %s, voter %t, store %x", m.Name, m.ConnectionString, m.Voter, m.StoreID))
	}
	slices.Sort(all)
	return all
}

// converged reports whether all servers have the same log, applied.
func (w *world) converged() bool {
	leader := w.leader()
	if leader == nil {
		return false
	}
	want := leader.Status()
	for _, n := range w.allNodes() {
		s := w.cluster.Server(n.name)
		if s == nil {
			return false
		}
		got := s.Status()
		if got.Term != want.Term || got.Leader != want.Name || got.LastIndex != want.LastIndex || got.LastTerm != want.LastTerm ||
			got.CommitIndex != want.LastIndex || got.LastApplied != want.LastIndex {
			return false
		}
		if !w.workload.complete(n) {
			return false
		}
	}
	return true
}

// check completes a report outside of the bubble: the search for an order of the
// clients' operations takes the time that it takes.
func (r *Report) check(sum uint64) {
	r.Hash = fmt.Sprintf("%016x", sum)
	if r.Failure != "" {
		return
	}
	if len(r.history) > 0 {
		r.Checks["histories"] = 1
	}
	if !linearizable(r.history) {
		r.Failure = "I9: the clients' history is not linearizable"
	}
}
