package main

import (
	"strings"
	"testing"

	"github.com/goraft/raft/bench/load"
)

// judged returns the row about a bar in a cell.
func judged(t *testing.T, r *results, what string, at cell) string {
	t.Helper()
	var text strings.Builder
	r.judge(&text)
	for line := range strings.Lines(text.String()) {
		if strings.HasPrefix(line, "| "+what+" ") && strings.Contains(line, at.String()) {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	t.Fatalf("no row about %s in %s:\n%s", what, at, text.String())
	return ""
}

func TestBars(t *testing.T) {
	with := func(p99, allocs, bytes float64) func(*load.Result) {
		return func(r *load.Result) { r.P99, r.Allocs, r.Bytes = p99, allocs, bytes }
	}
	one, stalled, snapshot := cell{load.Write, 5, 16, 1, 0}, common.with(load.Stalled), cell{load.Snapshot, 3, 128, 64, 0}
	costs := func(cpu float64, heap uint64) func(*load.Result) {
		return func(r *load.Result) { r.CPU, r.Heap = cpu, heap }
	}
	leads := func(ms float64) func(*load.Result) {
		return func(r *load.Result) { r.Own = map[string]float64{"leader ms": ms} }
	}
	big := cell{load.Write, 3, 64 << 10, 64, 0}
	short, idles, starts := common.after(1000), cell{load.Idle, 3, 128, 0, 0}, cell{load.Start, 1, 128, 0, 10_000_000}
	leader, three := cell{load.Leader, 7, 128, 64, 0}, cell{load.Leader, 3, 128, 64, 0}
	r := resultsOf(
		ran(1, theFloor, common, 1000, with(10e6, 0, 0)),
		ran(1, "etcd", common, 250),
		ran(1, ours, common, 500, with(15e6, 7, 704)),
		ran(1, ours, stalled, 449),
		ran(1, theFloor, one, 1000), ran(1, ours, one, 799),
		ran(1, theFloor, big, 200), ran(1, growing, big, 100), ran(1, ours, big, 90),
		ran(1, ours, short, 100, costs(10e3, 30<<20)), ran(1, ours, short.after(100_000), 81, costs(12e3, 60<<20)), ran(1, ours, short.after(10_000_000), 79, costs(12.1e3, 73<<20)),
		ran(1, ours, leader, 100, leads(900)), ran(1, ours, three, 200, leads(600)), ran(1, ours, idles, 0, costs(11e6, 51<<20)), ran(1, ours, starts, 0),
		ran(1, ours, snapshot.with(load.Write), 100, with(2e6, 0, 0)), ran(1, ours, snapshot, 100, with(5e6, 0, 0)),
	)
	for _, c := range []struct {
		what string
		at   cell
		want string
	}{
		{share, common, "0.50 | 0.50..0.50 | ≥ 0.50 | yes |"},
		{share, one, "0.80 | 0.80..0.80 | ≥ 0.80 | NO |"},
		{share, big, "0.45 | 0.45..0.45 | ≥ 0.70 | NO |"},
		{grown, big, "0.90 | 0.90..0.90 | ≥ 0.80 | yes |"},
		{multiple, common, "2.00 | 2.00..2.00 | ≥ 2.50 | NO |"},
		{latency, common, "1.50 | 1.50..1.50 | ≤ 1.50 | yes |"},
		{"allocations beyond", common, "4.00 | 4.00..4.00 | ≤ 4.00 | yes |"},
		{"bytes allocated beyond", common, "512 | 512..512 | ≤ 512 | yes |"},
		{"throughput of what it is", stalled, "0.90 | 0.90..0.90 | ≥ 0.90 | NO |"},
		{"p99 of what it is", snapshot, "2.50 | 2.50..2.50 | ≤ 2.00 | NO |"},
		{"processor per command of what it is in a short log", short.after(100_000), "1.20 | 1.20..1.20 | ≤ 1.20 | yes |"},
		{"processor per command of what it is in a short log", short.after(10_000_000), "1.21 | 1.21..1.21 | ≤ 1.20 | NO |"},
		{"throughput of what it is in a short log", short.after(100_000), "0.81 | 0.81..0.81 | ≥ 0.80 | yes |"},
		{"throughput of what it is in a short log", short.after(10_000_000), "0.79 | 0.79..0.79 | ≥ 0.80 | NO |"},
		{"heap of what it is", short.after(10_000_000), "1.22 | 1.22..1.22 | ≤ 1.20 | NO |"},
		{"the leader's processor", leader, "3.00 | 3.00..3.00 | ≤ 3.00 | yes |"},
		{"per cent of a core", idles, "1.10 | 1.10..1.10 | ≤ 1.00 | NO |"},
		{"MiB of heap per server", idles, "17.0 | 17.0..17.0 | ≤ 16.0 | NO |"},
		{"seconds to start", starts, "0.50 | 0.50..0.50 | ≤ 1.00 | yes |"},
	} {
		if got := judged(t, r, c.what, c.at); !strings.HasSuffix(got, c.want) {
			t.Errorf("%s\nwant the end %s", got, c.want)
		}
	}
	var text strings.Builder
	r.judge(&text)
	if want := "9 hold, 10 do not, 53 were not measured."; !strings.Contains(text.String(), want) {
		t.Errorf("the sum is not %q:\n%s", want, text.String())
	}
}

func TestBarsDoNotHoldWhereRunsFail(t *testing.T) {
	failed := run{Round: 2, System: ours, Cell: common, Err: "too many uncommitted bytes"}
	for want, r := range map[string]*results{
		"| | | ≥ 0.50 | NO, runs failed |":               resultsOf(failed, ran(1, theFloor, common, 100)),
		"0.90 | 0.90..0.90 | ≥ 0.50 | NO, runs failed |": resultsOf(failed, ran(1, theFloor, common, 100), ran(1, ours, common, 90)),
	} {
		if got := judged(t, r, share, common); !strings.HasSuffix(got, want) {
			t.Errorf("%s\nwant the end %s", got, want)
		}
	}
}

// The plans that are to say whether the bars hold run all that they ask about.
func TestPlansMeasureEveryBar(t *testing.T) {
	r := newResults()
	for _, name := range []string{"full", "scale"} {
		for _, task := range chosen(t, options{plan: name}).tasks() {
			for _, system := range task.systems {
				r.add(ran(1, system, task.cell, 100))
			}
		}
	}
	for _, b := range bars {
		if (b.least > 0) == (b.most > 0) {
			t.Errorf("%s: neither least nor most, or both", b.what)
		}
		for _, at := range b.cells.cells() {
			if len(b.figure(r, at)) == 0 {
				t.Errorf("%s in %s is not measured", b.what, at)
			}
		}
	}
}
