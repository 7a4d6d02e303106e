package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/goraft/raft/bench/load"
)

// cell is a load under which systems are compared.
type cell struct {
	workload               string
	servers, size, clients int
	entries                int // in the log before
}

// String names the cell.
func (c cell) String() string { return c.table() + ", " + counted(c.clients, "client") }

// table names what the cell shares with the others of its table.
func (c cell) table() string {
	name := fmt.Sprintf("%s, %s, %s", c.workload, bytesName(c.size), counted(c.servers, "server"))
	if c.entries > 0 {
		name += fmt.Sprintf(", after %s", counted(c.entries, "command"))
	}
	return name
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousandsFrom(n) + " " + what
}

// thousandsFrom groups the digits of what is large.
func thousandsFrom(n int) string {
	if n < 10_000 {
		return fmt.Sprint(n)
	}
	return thousands(float64(n))
}

// with is the same load in another workload.
func (c cell) with(workload string) cell {
	c.workload = workload
	return c
}

// after is the same load on a log with so many entries.
func (c cell) after(entries int) cell {
	c.entries = entries
	return c
}

// compareCells keeps those together that are compared with each other.
func compareCells(a, b cell) int {
	return cmp.Or(cmp.Compare(a.entries, b.entries), cmp.Compare(a.servers, b.servers), cmp.Compare(a.size, b.size),
		cmp.Compare(a.clients, b.clients), cmp.Compare(a.workload, b.workload))
}

func bytesName(size int) string {
	if size >= 1<<10 && size%(1<<10) == 0 {
		return fmt.Sprintf("%d KiB", size>>10)
	}
	return fmt.Sprintf("%d B", size)
}

// block is every combination of its parts.
type block struct {
	systems, workloads      []string
	servers, sizes, clients []int
	entries                 []int
}

// every is a block whose logs are empty at first.
func every(systems, workloads []string, servers, sizes, clients []int) block {
	return block{systems, workloads, servers, sizes, clients, []int{0}}
}

// after is the same with so many entries in the logs.
func (b block) after(entries ...int) block {
	b.entries = entries
	return b
}

// cells are the combinations but for the systems.
func (b block) cells() (all []cell) {
	for _, workload := range b.workloads {
		for _, servers := range b.servers {
			for _, size := range b.sizes {
				for _, clients := range b.clients {
					for _, entries := range b.entries {
						all = append(all, cell{workload, servers, size, clients, entries})
					}
				}
			}
		}
	}
	return all
}

// narrow keeps what the choice has, too; an empty part of it chooses all.
func (b block) narrow(choice block) block {
	return block{
		both(b.systems, choice.systems), both(b.workloads, choice.workloads),
		both(b.servers, choice.servers), both(b.sizes, choice.sizes), both(b.clients, choice.clients),
		both(b.entries, choice.entries),
	}
}

func both[T comparable](all, chosen []T) (some []T) {
	for _, one := range all {
		if len(chosen) == 0 || slices.Contains(chosen, one) {
			some = append(some, one)
		}
	}
	return some
}

// fill takes from the other block what this one leaves empty.
func (b block) fill(other block) block {
	return block{
		either(b.systems, other.systems), either(b.workloads, other.workloads),
		either(b.servers, other.servers), either(b.sizes, other.sizes), either(b.clients, other.clients),
		either(b.entries, other.entries),
	}
}

func either[T any](some, other []T) []T {
	if len(some) > 0 {
		return some
	}
	return other
}

// plan is what is run: all that the blocks name, in every round.
type plan struct {
	name           string
	blocks         []block
	rounds         int
	warmup, window time.Duration
	limit          time.Duration // no round begins that would last longer, as the one before it did
}

// between is what a run takes besides warm-up and window: the start of a process,
// files to allocate, an election, and what it wrote to be deleted and settled.
const between = 2 * time.Second

// eachEntry is what an entry takes that is written before, and idleWindow how long
// servers are watched that have little to do.
const (
	eachEntry  = 25 * time.Microsecond
	idleWindow = 10 * time.Second
)

var (
	own      = []string{ours, theFloor}
	counts   = []int{1, 16, 64, 256, 1024}
	baseline = every(own, []string{load.Write}, []int{3}, []int{128}, []int{64})

	// What ours costs where there is nothing to compare it with but itself.
	idle     = every([]string{ours}, []string{load.Idle}, []int{3}, []int{128}, []int{0})
	reads    = every([]string{ours}, []string{load.Read}, []int{3}, []int{128}, []int{64})
	leading  = every([]string{ours}, []string{load.Leader}, []int{3, 7}, []int{128}, []int{64, 1024})
	snapshot = every([]string{ours}, []string{load.Snapshot}, []int{3}, []int{128}, []int{64})
	lengths  = []int{1_000, 100_000, 1_000_000, 10_000_000}
)

// plans are full, which has to end within an hour, quick, within two minutes, and
// scale, which has what grows with the log and takes too long for the other two: three
// servers write 6 GB before they are measured, which are gone afterwards.
var plans = []plan{
	{
		name: "full", rounds: 5, warmup: time.Second, window: 2 * time.Second, limit: 52 * time.Minute,
		blocks: []block{
			every(own, []string{load.Write}, []int{3, 5}, []int{16, 128, 1 << 10, 64 << 10}, counts),
			every(peers(), []string{load.Write}, []int{3}, []int{128}, counts),
			every([]string{growing}, []string{load.Write}, []int{3}, []int{64 << 10}, counts),
			every([]string{growing}, []string{load.Write}, []int{3, 5}, []int{16, 128, 1 << 10}, []int{1024}),
			every(own, []string{load.Stalled}, []int{3}, []int{128}, []int{64, 1024}),
			snapshot, reads, leading, idle,
		},
	},
	{
		name: "quick", rounds: 3, warmup: time.Second, window: 2 * time.Second, limit: 110 * time.Second,
		blocks: []block{every(own, []string{load.Write}, []int{3}, []int{128}, []int{1, 64, 1024}), reads},
	},
	{
		name: "scale", rounds: 2, warmup: time.Second, window: 4 * time.Second, limit: 45 * time.Minute,
		blocks: []block{
			every([]string{ours}, []string{load.Write}, []int{3}, []int{128}, []int{64, 1024}).after(lengths...),
			every([]string{ours}, []string{load.Start}, []int{1}, []int{128}, []int{0}).after(lengths[len(lengths)-1]),
			every([]string{ours}, []string{load.Write}, []int{3}, []int{128}, []int{64}),
			snapshot, leading, idle,
		},
	},
	{name: "grid", rounds: 3, warmup: time.Second, window: 3 * time.Second, blocks: []block{baseline}},
}

// windowOf is how long a run is measured that does not end by itself.
func (p *plan) windowOf(at cell) time.Duration {
	if at.workload == load.Idle {
		return max(p.window, idleWindow)
	}
	return p.window
}

// lasts is about what a run takes.
func (p *plan) lasts(at cell) time.Duration {
	return p.warmup + p.windowOf(at) + time.Duration(at.entries)*eachEntry + between
}

// choosePlan is the plan that the command line names, as it changes it.
func choosePlan(o *options) (*plan, error) {
	i := slices.IndexFunc(plans, func(p plan) bool { return p.name == o.plan })
	if i < 0 {
		return nil, fmt.Errorf("no plan %q", o.plan)
	}
	p := plans[i]
	if p.name == "grid" {
		p.blocks = []block{o.choice.fill(baseline)}
	} else {
		p.blocks = nil
		for _, b := range plans[i].blocks {
			p.blocks = append(p.blocks, b.narrow(o.choice))
		}
	}
	p.rounds = cmp.Or(o.rounds, p.rounds)
	p.warmup, p.window = cmp.Or(o.warmup, p.warmup), cmp.Or(o.window, p.window)
	if p.runs() == 0 {
		return nil, fmt.Errorf("plan %s has nothing of this kind; -plan grid takes any", p.name)
	}
	return &p, nil
}

// task is a cell and the systems that are run in it.
type task struct {
	cell    cell
	systems []string
}

// tasks are what one round runs. Several blocks may add to a cell.
func (p *plan) tasks() (all []task) {
	in := make(map[cell][]string)
	for _, b := range p.blocks {
		for _, c := range b.cells() {
			for _, system := range b.systems {
				if !slices.Contains(in[c], system) {
					in[c] = append(in[c], system)
				}
			}
		}
	}
	for c, systems := range in {
		if len(systems) > 0 {
			all = append(all, task{c, systems})
		}
	}
	slices.SortFunc(all, func(a, b task) int { return compareCells(a.cell, b.cell) })
	return all
}

// systems are all that the plan runs.
func (p *plan) systems() (all []string) {
	for _, t := range p.tasks() {
		all = append(all, t.systems...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// leaveOut takes a system out of the plan.
func (p *plan) leaveOut(system string) {
	for i, b := range p.blocks {
		p.blocks[i].systems = slices.DeleteFunc(slices.Clone(b.systems), func(s string) bool { return s == system })
	}
}

func (p *plan) runs() (total int) {
	for _, t := range p.tasks() {
		total += len(t.systems) * p.rounds
	}
	return total
}

// estimate is how long the runs take, without the builds.
func (p *plan) estimate() (total time.Duration) {
	for _, t := range p.tasks() {
		total += time.Duration(len(t.systems)*p.rounds) * p.lasts(t.cell)
	}
	return total
}

// String says what is about to happen.
func (p *plan) String() string {
	limit := ""
	if p.limit > 0 {
		limit = fmt.Sprintf(", at most %v", p.limit)
	}
	return fmt.Sprintf("plan %s: %d runs in %d rounds, each %v after a warm-up of %v: about %v%s and the builds",
		p.name, p.runs(), p.rounds, p.window, p.warmup, p.estimate().Round(time.Second), limit)
}

// order is the order of the systems in a round: each is the first one in turn.
func order(systems []string, round int) []string {
	k := round % len(systems)
	return slices.Concat(systems[k:], systems[:k])
}
