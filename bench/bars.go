package main

import (
	"fmt"
	"io"
	"math"

	"github.com/goraft/raft/bench/load"
)

// bar is what a figure of ours has to reach in every cell of the block.
type bar struct {
	what   string
	cells  block
	figure func(r *results, at cell) series
	least  float64 // unless most is set
	most   float64
}

var (
	write    = []string{load.Write}
	three    = []int{3}
	clusters = []int{3, 5}
	small    = []int{16, 128, 1 << 10}
	large    = []int{64 << 10}
	payload  = []int{128}
)

// longer are those of the longer logs.
var longer = every(nil, write, three, payload, []int{64, 1024}).after(lengths[1:]...)

// bars are the promises about speed. All are medians of rounds.
var bars = []bar{
	{what: share, cells: every(nil, write, clusters, small, []int{1}), figure: rateOfFloor, least: 0.8},
	{what: share, cells: every(nil, write, clusters, small, []int{64}), figure: rateOfFloor, least: 0.65},
	{what: share, cells: every(nil, write, clusters, small, []int{1024}), figure: rateOfFloor, least: 0.5},
	{what: share, cells: every(nil, write, clusters, large, []int{1}), figure: rateOfFloor, least: 0.8},
	{what: share, cells: every(nil, write, clusters, large, []int{16, 64, 256, 1024}), figure: rateOfFloor, least: 0.7},

	// What the same disk takes of a log: new space costs it more than overwriting.
	{what: grown, cells: every(nil, write, three, large, counts), figure: rateOfGrowing, least: 0.8},
	{what: grown, cells: every(nil, write, clusters, small, []int{1024}), figure: rateOfGrowing, least: 0.5},

	{what: multiple, cells: every(nil, write, three, payload, []int{1}), figure: rateOfBestPeer, least: 1.3},
	{what: multiple, cells: every(nil, write, three, payload, []int{64}), figure: rateOfBestPeer, least: 1.5},
	{what: multiple, cells: every(nil, write, three, payload, []int{1024}), figure: rateOfBestPeer, least: 2.5},

	{what: latency, cells: every(nil, write, three, payload, []int{1}), figure: p99OfFloor, most: 1.3},
	{what: latency, cells: every(nil, write, three, payload, []int{64, 1024}), figure: p99OfFloor, most: 1.5},

	{what: "allocations beyond a command value per server", cells: every(nil, write, three, payload, []int{1024}), figure: allocsBeyond, most: 4},
	{what: "bytes allocated beyond 1.5 × the payload", cells: every(nil, write, three, payload, []int{1024}), figure: bytesBeyond, most: 512},

	{what: "throughput of what it is without the stall", cells: every(nil, []string{load.Stalled}, three, payload, []int{64, 1024}), figure: rateOfWrite, least: 0.9},
	{what: "reads per second of the commands per second", cells: reads, figure: rateOfWrite, least: 5},
	{what: "p99 of what it is without the snapshot", cells: every(nil, []string{load.Snapshot}, three, payload, []int{64}), figure: p99OfWrite, most: 2},

	{what: "processor per command of what it is in a short log", cells: longer, figure: cpuOfShort, most: 1.2},
	{what: "throughput of what it is in a short log", cells: longer, figure: rateOfShort, least: 0.8},
	{what: "heap of what it is after 100,000 commands", cells: longer.after(lengths[2:]...), figure: heapOfLong, most: 1.2},
	{what: "seconds to start", cells: every(nil, []string{load.Start}, []int{1}, payload, []int{0}).after(lengths[3]), figure: startSeconds, most: 1},
	{what: "the leader's processor per command of what it is with 3 servers", cells: every(nil, []string{load.Leader}, []int{7}, payload, []int{64, 1024}), figure: leaderOfThree, most: 3},
	{what: "per cent of a core by all servers", cells: idle, figure: percentOfCore, most: 1},
	{what: "MiB of heap per server", cells: idle, figure: heapPerServer, most: 16},
}

const (
	share    = "throughput of the floor's"
	grown    = "throughput of the floor's whose files grow"
	multiple = "throughput of the best peer's"
	latency  = "p99 of the floor's"
)

func rateOfFloor(r *results, at cell) series { return r.ofFloor(ours, at, rate) }
func rateOfGrowing(r *results, at cell) series {
	return r.of(ours, at, rate).over(r.of(growing, at, rate))
}
func p99OfFloor(r *results, at cell) series     { return r.ofFloor(ours, at, p99) }
func rateOfBestPeer(r *results, at cell) series { return r.ofBestPeer(ours, at) }

// allocsBeyond takes off the value that each server makes of a command.
func allocsBeyond(r *results, at cell) series {
	return r.of(ours, at, allocs).less(float64(at.servers))
}

func bytesBeyond(r *results, at cell) series {
	return r.of(ours, at, memory).less(1.5 * float64(at.size))
}

// rateOfWrite compares with the undisturbed workload under the same load.
func rateOfWrite(r *results, at cell) series {
	return r.of(ours, at, rate).over(r.of(ours, at.with(load.Write), rate))
}

func p99OfWrite(r *results, at cell) series {
	return r.of(ours, at, p99).over(r.of(ours, at.with(load.Write), p99))
}

// cpuOfShort compares with the log at its shortest.
func cpuOfShort(r *results, at cell) series {
	return r.of(ours, at, cpu).over(r.of(ours, at.after(lengths[0]), cpu))
}

func rateOfShort(r *results, at cell) series {
	return r.of(ours, at, rate).over(r.of(ours, at.after(lengths[0]), rate))
}

// heapOfLong compares with a log that fills what a server keeps of it in memory.
func heapOfLong(r *results, at cell) series {
	return r.of(ours, at, heap).over(r.of(ours, at.after(lengths[1]), heap))
}

func startSeconds(r *results, at cell) series { return r.of(ours, at, told("start s")) }

func leaderOfThree(r *results, at cell) series {
	few := at
	few.servers = 3
	each := func(result *load.Result) float64 { return told("leader ms")(result) / float64(result.Operations) }
	return r.of(ours, at, each).over(r.of(ours, few, each))
}

// percentOfCore is of a run without clients, whose CPU is per second.
func percentOfCore(r *results, at cell) series {
	return r.of(ours, at, func(result *load.Result) float64 { return result.CPU / 1e9 * 100 })
}

func heapPerServer(r *results, at cell) series { return r.of(ours, at, heap) }

// holds says whether the value reaches the bar.
func (b *bar) holds(value float64) bool {
	if b.most > 0 {
		return value <= b.most
	}
	return value >= b.least
}

// wanted is the limit in words.
func (b *bar) wanted() string {
	if b.most > 0 {
		return "≤ " + decimal(b.most)
	}
	return "≥ " + decimal(b.least)
}

// judge writes every bar that the runs say something about. A bar does not hold
// where a run of ours failed, whatever the others reached.
func (r *results) judge(w io.Writer) {
	var rows [][]string
	missed, open := 0, 0
	for _, b := range bars {
		for _, at := range b.cells.cells() {
			all := b.figure(r, at)
			value, failed := all.median(), r.failures(at, ours) != ""
			verdict := "yes"
			switch {
			case failed:
				verdict = "NO, runs failed"
				missed++
			case math.IsNaN(value):
				open++
				continue
			case !b.holds(value):
				verdict = "NO"
				missed++
			}
			rows = append(rows, []string{b.what, at.String(), decimal(value), fromTo(all), b.wanted(), verdict})
		}
	}
	fmt.Fprintf(w, "\n## What the issue's bars say\n\n")
	if len(rows) > 0 {
		writeTable(w, 2, []string{"ours", "where", "median", "min..max", "wanted", "holds"}, rows)
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d hold, %d do not, %d were not measured.\n", len(rows)-missed, missed, open)
}
