package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// volumeOptions say how much is run, and how.
type volumeOptions struct {
	way        build
	first      uint64
	seeds      int
	hours      float64
	batch      int
	state      string
	short      bool
	failures   int // after so many it ends
	neighbours int
	keep       string
}

func volumeCommand(ctx context.Context, args []string, out io.Writer) error {
	var o volumeOptions
	var race, wasm bool
	flags, lab := commandFlags("run")
	flags.Uint64Var(&o.first, "first", 1, "the first seed, where the state file does not say")
	flags.IntVar(&o.seeds, "seeds", 0, "run at least so many seeds")
	flags.Float64Var(&o.hours, "hours", 0, "run at least so many cluster-hours")
	flags.IntVar(&o.batch, "batch", 10, "seeds a process")
	flags.BoolVar(&race, "race", false, "build with the race detector")
	flags.BoolVar(&wasm, "wasm", false, "run in wasm instead of natively")
	flags.StringVar(&o.state, "state", "", "file to go on from: the next seed and the sums")
	flags.BoolVar(&o.short, "short", false, "a few virtual seconds a seed")
	flags.IntVar(&o.failures, "failures", 3, "end after so many failed seeds")
	flags.IntVar(&o.neighbours, "neighbours", 20, "schedules to search where a seed does not fail again")
	flags.StringVar(&o.keep, "keep", "bin/simulation", "directory for traces that do not repeat")
	if err := parse(flags, args); err != nil {
		return err
	}
	if o.seeds == 0 && o.hours == 0 {
		return usageError{errors.New("run: how much? Give -seeds or -hours")}
	}
	if race && wasm {
		return usageError{errors.New("run: there is no race detector in wasm")}
	}
	o.way = buildNative
	switch {
	case race:
		o.way = buildRace
	case wasm:
		o.way, o.batch = buildWasm, 1
	}
	return lab.use(func(l *laboratory) error { return volume(ctx, l, o, out) })
}

// volume runs seeds until there are enough, and looks into those that fail.
func volume(ctx context.Context, l *laboratory, o volumeOptions, out io.Writer) error {
	sums, err := loadTally(o.state, string(o.way), o.first)
	if err != nil {
		return err
	}
	run, err := l.batches(ctx, o)
	if err != nil {
		return err
	}
	known := len(sums.Failures)
	enough := func() bool {
		return sums.Seeds >= o.seeds && sums.hours() >= o.hours || len(sums.Failures)-known >= o.failures
	}
	first, began := sums.Next, time.Now()
	wall, cpu, cpuBegan := sums.Wall, sums.CPU, cpuUsed()
	said := began
	take := func(_ int, outcomes []outcome) (bool, error) {
		for i := range outcomes {
			sums.add(&outcomes[i])
			sums.Wall, sums.CPU = wall+time.Since(began), cpu+cpuUsed()-cpuBegan
			if outcomes[i].failed() {
				d := detective{lab: l, volume: o, out: out}
				if err := d.look(ctx, outcomes[i]); err != nil {
					return false, err
				}
			}
			if enough() {
				break
			}
		}
		if time.Since(said) > 15*time.Second {
			said = time.Now()
			fmt.Fprintln(out, sums.line())
		}
		return !enough(), sums.save(o.state)
	}
	if !enough() {
		batches := -1
		if o.hours == 0 {
			left := o.seeds - sums.Seeds
			o.batch = max(1, min(o.batch, left/l.workers))
			batches = (left + o.batch - 1) / o.batch
		}
		err = inOrder(ctx, l.workers, batches, func(ctx context.Context, i int) ([]outcome, error) {
			return run(ctx, first+uint64(i*o.batch), o.batch)
		}, take)
	}
	sums.print(out)
	if err != nil {
		return err
	}
	return verdict(sums)
}

// verdict is nil where nothing failed and everything happened.
func verdict(sums *tally) error {
	if n := len(sums.Failures); n > 0 {
		return fmt.Errorf("%d of %d seeds failed", n, sums.Seeds)
	}
	if names := sums.absent(); len(names) > 0 {
		return fmt.Errorf("in %d seeds there never was: %q", sums.Seeds, names)
	}
	return nil
}

// batches returns the function that runs count seeds the way that was asked for.
func (l *laboratory) batches(ctx context.Context, o volumeOptions) (func(context.Context, uint64, int) ([]outcome, error), error) {
	if o.way != buildWasm {
		p, err := l.native(ctx, o.way, o.short)
		if err != nil {
			return nil, err
		}
		return p.seeds, nil
	}
	m, err := l.wasm(ctx, false)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, first uint64, count int) ([]outcome, error) {
		var all []outcome
		for i := range count {
			got, err := m.run(ctx, scenario{Seed: first + uint64(i), Short: o.short}, nil, false)
			if err != nil {
				return all, err
			}
			all = append(all, got)
		}
		return all, nil
	}, nil
}
