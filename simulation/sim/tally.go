package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// A tally is the sum of all seeds that were run, and the file from which a run
// goes on.
type tally struct {
	Way      string           `json:"way"` // native, race or wasm
	Next     uint64           `json:"next"`
	Seeds    int              `json:"seeds"`
	Virtual  time.Duration    `json:"virtual_ns"`
	CPU      time.Duration    `json:"cpu_ns"`
	Wall     time.Duration    `json:"wall_ns"`
	Actions  int64            `json:"actions"`
	Servers  map[int]int64    `json:"servers"` // clusters by their size
	Faults   map[string]int64 `json:"faults"`
	Checks   map[string]int64 `json:"checks"`
	Failures []tallyFailure   `json:"failures"`
}

// A tallyFailure is what is kept of a failed seed.
type tallyFailure struct {
	Seed    uint64      `json:"seed"`
	Kind    failureKind `json:"kind"`
	Failure string      `json:"failure"` // its first line
}

func newTally(way string, first uint64) *tally {
	return &tally{
		Way: way, Next: first,
		Servers: make(map[int]int64), Faults: make(map[string]int64), Checks: make(map[string]int64),
	}
}

// loadTally reads the file, or begins anew where there is none.
func loadTally(file, way string, first uint64) (*tally, error) {
	t := newTally(way, first)
	if file == "" {
		return t, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, t); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if t.Way != way {
		return nil, fmt.Errorf("%s holds the sums of %s runs: give %s another file", file, t.Way, way)
	}
	return t, nil
}

// save replaces the file in one step: a run may be killed at any time.
func (t *tally) save(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(t, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// add counts one seed. Seeds are added in order, without a gap.
func (t *tally) add(o *outcome) {
	t.Next = o.Seed + 1
	t.Seeds++
	t.Virtual += time.Duration(o.VirtualNS)
	t.Actions += int64(o.Actions)
	if o.Servers > 0 { // unknown where the guest died
		t.Servers[o.Servers]++
	}
	for kind, n := range o.Faults {
		t.Faults[kind] += n
	}
	for name, n := range o.Checks {
		t.Checks[name] += n
	}
	if o.failed() {
		first, _, _ := strings.Cut(o.Failure, "\n")
		t.Failures = append(t.Failures, tallyFailure{o.Seed, o.kind, first})
	}
}

// enoughSeeds is after how many seeds every kind of fault must have happened.
const enoughSeeds = 300

// absent returns the kinds of fault, and the checks, that never happened though
// the guest knows them: tests that do not test.
func (t *tally) absent() []string {
	if t.Seeds < enoughSeeds {
		return nil
	}
	var names []string
	if len(t.Faults) == 0 {
		names = append(names, "any fault")
	}
	for name, n := range t.Faults {
		if n == 0 {
			names = append(names, "fault "+name)
		}
	}
	for name, n := range t.Checks {
		if n == 0 {
			names = append(names, "check "+name)
		}
	}
	slices.Sort(names)
	return names
}

// hours is the sum of what the clusters lived through.
func (t *tally) hours() float64 { return t.Virtual.Hours() }

// speed is in cluster-hours for an hour of one core.
func (t *tally) speed() float64 {
	if t.CPU == 0 {
		return 0
	}
	return t.Virtual.Seconds() / t.CPU.Seconds()
}

// line is the state of a run in one line.
func (t *tally) line() string {
	return fmt.Sprintf("%s: %d seeds, %.2f cluster-hours, %d failed, %.1f cluster-hours per core-hour",
		t.Way, t.Seeds, t.hours(), len(t.Failures), t.speed())
}

// print writes all sums.
func (t *tally) print(w io.Writer) {
	fmt.Fprintln(w, t.line())
	fmt.Fprintf(w, "  took %s, %s of a core; next seed %d; %d actions of the nemesis\n",
		t.Wall.Round(time.Second), t.CPU.Round(time.Second), t.Next, t.Actions)
	sizes := make([]string, 0, len(t.Servers))
	for _, size := range slices.Sorted(maps.Keys(t.Servers)) {
		sizes = append(sizes, fmt.Sprintf("%d of %d", t.Servers[size], size))
	}
	fmt.Fprintf(w, "  servers: %s\n", strings.Join(sizes, ", "))
	printCounts(w, "faults", t.Faults)
	printCounts(w, "checks", t.Checks)
	for _, f := range t.Failures {
		fmt.Fprintf(w, "  seed %d failed (%s): %s\n", f.Seed, f.Kind, f.Failure)
	}
}

func printCounts(w io.Writer, title string, counts map[string]int64) {
	fmt.Fprintf(w, "  %s:\n", title)
	width := 0
	for name := range counts {
		width = max(width, len(name))
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "    %-*s %12d\n", width, name, counts[name])
	}
}
