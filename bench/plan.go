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
}

// String names the cell.
func (c cell) String() string {
	if c.clients == 1 {
		return c.table() + ", 1 client"
	}
	return fmt.Sprintf("%s, %d clients", c.table(), c.clients)
}

// table names what the cell shares with the others of its table.
func (c cell) table() string {
	return fmt.Sprintf("%s, %s, %d servers", c.workload, bytesName(c.size), c.servers)
}

// with is the same load in another workload.
func (c cell) with(workload string) cell {
	c.workload = workload
	return c
}

// compareCells keeps those together that are compared with each other.
func compareCells(a, b cell) int {
	return cmp.Or(cmp.Compare(a.servers, b.servers), cmp.Compare(a.size, b.size),
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
}

// cells are the combinations but for the systems.
func (b block) cells() (all []cell) {
	for _, workload := range b.workloads {
		for _, servers := range b.servers {
			for _, size := range b.sizes {
				for _, clients := range b.clients {
					all = append(all, cell{workload, servers, size, clients})
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

var (
	own      = []string{ours, theFloor}
	counts   = []int{1, 16, 64, 256, 1024}
	baseline = block{own, []string{load.Write}, []int{3}, []int{128}, []int{64}}
)

// plans are full, which has to end within an hour, and quick, within two minutes.
var plans = []plan{
	{
		name: "full", rounds: 5, warmup: time.Second, window: 2 * time.Second, limit: 52 * time.Minute,
		blocks: []block{
			{own, []string{load.Write}, []int{3, 5}, []int{16, 128, 1 << 10, 64 << 10}, counts},
			{peers(), []string{load.Write}, []int{3}, []int{128}, counts},
			{own, []string{load.Stalled}, []int{3}, []int{128}, []int{64, 1024}},
			{[]string{ours}, []string{load.Snapshot}, []int{3}, []int{128}, []int{64}},
		},
	},
	{
		name: "quick", rounds: 3, warmup: time.Second, window: 2 * time.Second, limit: 110 * time.Second,
		blocks: []block{{own, []string{load.Write}, []int{3}, []int{128}, []int{1, 64, 1024}}},
	},
	{name: "grid", rounds: 3, warmup: time.Second, window: 3 * time.Second, blocks: []block{baseline}},
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
func (p *plan) estimate() time.Duration {
	return time.Duration(p.runs()) * (p.warmup + p.window + between)
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
