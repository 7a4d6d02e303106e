//go:build simulation

package simulation

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// seeds are those that SIM_SEEDS names: one, or "100-20", twenty from 100 on.
func seeds(t *testing.T, text string) (all []uint64) {
	first, count, many := strings.Cut(text, "-")
	if !many {
		count = "1"
	}
	from, err := strconv.ParseUint(first, 10, 64)
	n, err2 := strconv.ParseUint(count, 10, 64)
	if err != nil || err2 != nil {
		t.Fatalf("SIM_SEEDS=%q is no seed and no range of them", text)
	}
	for i := range n {
		all = append(all, from+i)
	}
	return all
}

// skips are the actions that SIM_SKIP names: "3,7-9".
func skips(t *testing.T, text string) func(int) bool {
	skip := map[int]bool{}
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		first, last, many := strings.Cut(part, "-")
		if !many {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err != nil || err2 != nil {
			t.Fatalf("SIM_SKIP=%q names no actions", text)
		}
		for i := from; i <= to; i++ {
			skip[i] = true
		}
	}
	return func(action int) bool { return skip[action] }
}

// TestSeeds runs the seeds that SIM_SEEDS names, or a few. See the program sim in
// the folder below for what the other variables mean.
func TestSeeds(t *testing.T) {
	text := os.Getenv("SIM_SEEDS")
	if text == "" {
		text = "1-6"
	}
	neighbour, _ := strconv.ParseUint(os.Getenv("SIM_NEIGHBOUR"), 10, 64)
	skip := skips(t, os.Getenv("SIM_SKIP"))
	for _, seed := range seeds(t, text) {
		report := simulate(t, draw(seed, os.Getenv("SIM_SHORT") != ""), skip, neighbour, func(w *world) workload { return newRegisters(w) })
		line, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("SIMULATION %s\n", line)
		if report.Failure != "" {
			t.Errorf("seed %d: %s", seed, report.Failure)
		}
	}
}
