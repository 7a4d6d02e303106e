package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/goraft/raft/bench/load"
)

// series is a figure by round. Systems are compared within a round, where they ran
// one after the other on the same machine in the same mood; only what comes out of
// that is put together over the rounds.
type series map[int]float64

// over is the ratio in every round that both have.
func (s series) over(other series) series {
	ratios := make(series)
	for round, value := range s {
		if divisor, ok := other[round]; ok && divisor > 0 {
			ratios[round] = value / divisor
		}
	}
	return ratios
}

// less takes the same from every round.
func (s series) less(what float64) series {
	rest := make(series)
	for round, value := range s {
		rest[round] = value - what
	}
	return rest
}

// best is the highest of each round.
func best(all ...series) series {
	highest := make(series)
	for _, s := range all {
		for round, value := range s {
			highest[round] = max(highest[round], value)
		}
	}
	return highest
}

// median is NaN if there is no round.
func (s series) median() float64 {
	sorted := slices.Sorted(maps.Values(s))
	if len(sorted) == 0 {
		return math.NaN()
	}
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// spread is the lowest and the highest.
func (s series) spread() (low, high float64) {
	sorted := slices.Sorted(maps.Values(s))
	if len(sorted) == 0 {
		return math.NaN(), math.NaN()
	}
	return sorted[0], sorted[len(sorted)-1]
}

// results are all runs, to be asked for series.
type results struct {
	runs  []run
	notes []string
	good  map[place]map[int]load.Result
}

// place is where a system ran.
type place struct {
	cell   cell
	system string
}

func newResults() *results { return &results{good: make(map[place]map[int]load.Result)} }

func (r *results) add(one run) {
	r.runs = append(r.runs, one)
	if one.Err != "" {
		return
	}
	at := place{one.Cell, one.System}
	if r.good[at] == nil {
		r.good[at] = make(map[int]load.Result)
	}
	r.good[at][one.Round] = one.Result
}

// of is a figure of a system in a cell.
func (r *results) of(system string, at cell, figure func(*load.Result) float64) series {
	s := make(series)
	for round, result := range r.good[place{at, system}] {
		if value := figure(&result); !math.IsNaN(value) {
			s[round] = value
		}
	}
	return s
}

// The figures of a run.
func rate(r *load.Result) float64   { return r.Rate() }
func p50(r *load.Result) float64    { return r.P50 }
func p99(r *load.Result) float64    { return r.P99 }
func cpu(r *load.Result) float64    { return r.CPU }
func allocs(r *load.Result) float64 { return r.Allocs }
func memory(r *load.Result) float64 { return r.Bytes }

// heap and resident are in MiB; what the clients need is in them.
func heap(r *load.Result) float64     { return float64(r.Heap) / float64(r.Config.Servers) / (1 << 20) }
func resident(r *load.Result) float64 { return float64(r.Resident) / (1 << 20) }

// told is a figure of the system's own.
func told(name string) func(*load.Result) float64 {
	return func(r *load.Result) float64 {
		value, ok := r.Own[name]
		if !ok {
			return math.NaN()
		}
		return value
	}
}

// ofFloor is a system's figure as a share of the floor's.
func (r *results) ofFloor(system string, at cell, figure func(*load.Result) float64) series {
	return r.of(system, at, figure).over(r.of(theFloor, at, figure))
}

// ofBestPeer is a system's rate as a multiple of that of the fastest peer.
func (r *results) ofBestPeer(system string, at cell) series {
	var all []series
	for _, peer := range peers() {
		all = append(all, r.of(peer, at, rate))
	}
	return r.of(system, at, rate).over(best(all...))
}

// cells are those with a run.
func (r *results) cells() []cell {
	in := make(map[cell]bool)
	for _, one := range r.runs {
		in[one.Cell] = true
	}
	return slices.SortedFunc(maps.Keys(in), compareCells)
}

// failures says which runs of which systems failed in a cell, by the reasons.
func (r *results) failures(at cell, system string) string {
	failed, all := 0, 0
	var why []string
	for _, one := range r.runs {
		if one.Cell != at || one.System != system {
			continue
		}
		all++
		if one.Err != "" {
			failed++
			if !slices.Contains(why, one.Err) {
				why = append(why, one.Err)
			}
		}
	}
	if failed == 0 {
		return ""
	}
	return fmt.Sprintf("%s, %s: %d of %d runs failed: %s", at, system, failed, all, strings.Join(why, "; "))
}

// ownFailures is an error if a run failed that was not a peer's.
func (r *results) ownFailures() error {
	for _, one := range r.runs {
		if one.Err != "" && slices.Contains(own, one.System) {
			return fmt.Errorf("%s failed in round %d of %s: %s", one.System, one.Round, one.Cell, one.Err)
		}
	}
	return nil
}
