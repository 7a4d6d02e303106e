package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goraft/raft/bench/load"
)

// standInEnv makes the test binary a program under test itself, which does what
// the variable says.
const standInEnv = "BENCH_STAND_IN"

func TestMain(m *testing.M) {
	if os.Getenv(standInEnv) != "" {
		load.Main(startStandIn)
		return
	}
	os.Exit(m.Run())
}

// standIn answers at once, and counts.
type standIn struct{ answers *atomic.Int64 }

func startStandIn(c load.Config) (load.System, error) {
	switch os.Getenv(standInEnv) {
	case "fails":
		fmt.Fprintln(os.Stderr, "about to fail")
		return nil, errors.New("the disk is full")
	case "panics":
		panic("index out of range")
	case "writes only":
		return nil, load.ErrWorkload{Workload: c.Workload}
	}
	fmt.Println("I am a system that likes to talk")
	return standIn{new(atomic.Int64)}, os.WriteFile(c.Dir+"/log", []byte("entries"), 0o600)
}

// Client is load.System's.
func (s standIn) Client(int) (func(context.Context) error, error) {
	return func(context.Context) error { s.answers.Add(1); return nil }, nil
}

// Tell is load.Teller's.
func (s standIn) Tell() map[string]float64 {
	return map[string]float64{"answers": float64(s.answers.Load())}
}

// Close is load.System's.
func (standIn) Close() error { return nil }

// common is the cell with a bar of every kind but the disturbed ones.
var common = cell{load.Write, 3, 128, 1024, 0}

// ran makes a run of so many operations per second.
func ran(round int, system string, at cell, rate float64, more ...func(*load.Result)) run {
	one := run{Round: round, System: system, Cell: at}
	one.Result = load.Result{
		Config:  load.Config{Workload: at.workload, Clients: at.clients, Size: at.size, Servers: at.servers, Entries: at.entries, Warmup: time.Second, Window: 2 * time.Second},
		Seconds: 2, Operations: int(2 * rate), P50: 1e6, P99: 2e6, Max: 3e6, CPU: 4e3, Allocs: 5, Bytes: 600, Heap: 7e6, Resident: 8e6,
	}
	if at.workload == load.Start || at.workload == load.Leader {
		one.Result.Own = map[string]float64{"start s": 0.5, "leader ms": 1}
	}
	for _, change := range more {
		change(&one.Result)
	}
	return one
}

func resultsOf(runs ...run) *results {
	r := newResults()
	for _, one := range runs {
		r.add(one)
	}
	return r
}
