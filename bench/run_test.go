package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goraft/raft/bench/load"
)

// measureStandIn runs the test binary as a program that does what it is told.
func measureStandIn(t *testing.T, does string, at cell) (load.Result, string, error) {
	t.Helper()
	t.Setenv(standInEnv, does)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	var failures bytes.Buffer
	p := &plan{warmup: 10 * time.Millisecond, window: 20 * time.Millisecond}
	result, err := measure(context.Background(), []string{program}, data, at, p, &failures)
	if left, e := os.ReadDir(data); e != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, e)
	}
	return result, failures.String(), err
}

func TestMeasureReadsWhatAProgramFound(t *testing.T) {
	result, failures, err := measureStandIn(t, "works", cell{load.Write, 5, 16, 2, 0})
	if err != nil || failures != "" {
		t.Fatal(err, failures)
	}
	if result.Operations == 0 || result.Seconds < 0.02 || result.Config.Servers != 5 || int(result.Own["answers"]) < result.Operations {
		t.Errorf("%+v", result)
	}
}

// Entries are commands that were answered before the clients began; there may be
// no clients afterwards.
func TestMeasureWritesEntriesFirst(t *testing.T) {
	for _, entries := range []int{1, 5000} {
		result, failures, err := measureStandIn(t, "works", cell{load.Idle, 3, 16, 0, entries})
		if err != nil || failures != "" {
			t.Fatal(err, failures)
		}
		if result.Own["answers"] != float64(entries) || result.Config.Entries != entries || result.Operations != 0 {
			t.Errorf("%+v", result)
		}
	}
}

func TestMeasureTellsWhyAProgramFailed(t *testing.T) {
	_, failures, err := measureStandIn(t, "fails", common)
	if err == nil || !strings.HasSuffix(err.Error(), "the disk is full") || !strings.Contains(failures, "about to fail") {
		t.Errorf("%v; kept: %s", err, failures)
	}
	if _, _, err := measureStandIn(t, "panics", common); err == nil || !strings.HasSuffix(err.Error(), "panic: index out of range") {
		t.Errorf("a panic is %v", err)
	}
	_, _, err = measureStandIn(t, "writes only", common.with(load.Snapshot))
	var no load.ErrWorkload
	if !errors.As(err, &no) || no.Workload != load.Snapshot {
		t.Errorf("a workload that it does not have is %v", err)
	}
}

func TestParse(t *testing.T) {
	const config = `"Config":{"Workload":"write","Clients":1024,"Size":128,"Servers":3,"Dir":"d","Warmup":1,"Window":2}`
	good := "{" + config + `,"Seconds":2,"Operations":50,"P50":1,"P99":2,"Max":3,"CPU":4,"Allocs":5,"Bytes":6,"Heap":7,"Own":null}`
	result, err := parse([]byte("elected {leader}\n"+good+"\n"), common)
	if err != nil || result.Rate() != 25 || result.P99 != 2 || result.Allocs != 5 || result.Heap != 7 {
		t.Errorf("%+v, %v", result, err)
	}
	for what, out := range map[string]string{
		"nothing":       "",
		"no result":     good + "\nbye",
		"other clients": strings.Replace(good, "1024", "64", 1),
		"other entries": strings.Replace(good, `"Dir"`, `"Entries":1000,"Dir"`, 1),
		"no operations": strings.Replace(good, ":50,", ":0,", 1),
	} {
		if result, err := parse([]byte(out), common); err == nil {
			t.Errorf("%s: %+v", what, result)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var kept tail
	for range 3 {
		if n, err := kept.Write(bytes.Repeat([]byte("x"), tailSize/2)); n != tailSize/2 || err != nil {
			t.Fatal(n, err)
		}
	}
	_, _ = kept.Write([]byte("the end"))
	if len(kept.kept) != tailSize || !bytes.HasSuffix(kept.kept, []byte("xthe end")) {
		t.Errorf("%d bytes kept", len(kept.kept))
	}
}

// conducted returns what a plan runs, in its order, with the given measurement.
func conducted(t *testing.T, p *plan, measure func(system string, at cell) (load.Result, error)) ([]run, []string) {
	t.Helper()
	var runs []run
	c := &conductor{plan: p, measure: measure, took: func(one run) error {
		runs = append(runs, one)
		return nil
	}}
	if err := c.conduct(context.Background()); err != nil {
		t.Fatal(err)
	}
	return runs, c.notes
}

func TestRoundsAreInterleaved(t *testing.T) {
	p := chosen(t, options{plan: "grid", rounds: 2, choice: block{clients: []int{1, 64}}})
	runs, notes := conducted(t, p, func(system string, at cell) (load.Result, error) {
		return ran(0, system, at, 100).Result, nil
	})
	var got []string
	for _, one := range runs {
		got = append(got, strings.Repeat("I", one.Round)+" "+one.System+" "+thousands(float64(one.Cell.clients)))
	}
	want := []string{"I ours 1", "I floor 1", "I ours 64", "I floor 64", "II floor 1", "II ours 1", "II floor 64", "II ours 64"}
	if !slices.Equal(got, want) || len(notes) > 0 {
		t.Errorf("ran %v, want %v; %v", got, want, notes)
	}
}

func TestRunsThatFailDoNotEndThePlan(t *testing.T) {
	p := chosen(t, options{plan: "grid", rounds: 3, choice: block{systems: slices.Concat(own, peers()), workloads: []string{load.Stalled}}})
	asked := make(map[string]int)
	runs, notes := conducted(t, p, func(system string, at cell) (load.Result, error) {
		asked[system]++
		switch system {
		case "etcd":
			return load.Result{}, errors.New("no leader")
		case "hashicorp":
			return load.Result{}, load.ErrWorkload{Workload: at.workload}
		}
		return ran(0, system, at, 100).Result, nil
	})
	r := resultsOf(runs...)
	at := cell{load.Stalled, 3, 128, 64, 0}
	if len(runs) != 4*3 || len(r.of(ours, at, rate)) != 3 || len(r.of("etcd", at, rate)) != 0 || asked["etcd"] != 3 {
		t.Errorf("ran %v", runs)
	}
	if asked["hashicorp"] != 1 || len(notes) != 1 || !strings.Contains(notes[0], "hashicorp is left out of stalled") {
		t.Errorf("asked %v, noted %v", asked, notes)
	}
}

func TestPlanEndsAtItsLimit(t *testing.T) {
	p := chosen(t, options{plan: "grid", rounds: 3})
	p.limit = time.Nanosecond // less than the first round takes
	runs, notes := conducted(t, p, func(system string, at cell) (load.Result, error) {
		return ran(0, system, at, 100).Result, nil
	})
	if len(runs) != 2 || len(notes) != 1 || !strings.HasPrefix(notes[0], "ended after 1 of 3 rounds") {
		t.Errorf("%d runs, noted %v", len(runs), notes)
	}
}
