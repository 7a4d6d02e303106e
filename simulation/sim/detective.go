package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A detective looks for a way to make a failure repeat.
type detective struct {
	lab    *laboratory
	volume volumeOptions
	out    io.Writer
}

const (
	nativeTries = 10               // to see a failure again, natively
	hangLimit   = 90 * time.Second // of real time for what hung natively, in wasm
	shownLines  = 60               // of a failure
)

// look says what failed and prints the command that replays it, if there is one.
func (d *detective) look(ctx context.Context, failed outcome) error {
	s := scenario{Seed: failed.Seed, Neighbour: failed.Neighbour, Short: d.volume.short}
	fmt.Fprintf(d.out, "\nseed %d failed (%s, %s):\n%s\n", s.Seed, d.volume.way, failed.kind, indented(failed.Failure))
	switch {
	case d.volume.way == buildWasm:
		d.sayReplay(s, failed)
		return nil
	case failed.kind == failedRace:
		fmt.Fprintf(d.out, "a data race shows only natively: %s\n", d.again(s))
		return nil
	}
	m, done, err := d.machine(ctx, failed)
	if err != nil {
		return err
	}
	defer done()
	again, err := m.run(ctx, s, nil, false)
	if err != nil {
		return err
	}
	if again.failed() {
		if signature(again.Failure) != signature(failed.Failure) {
			fmt.Fprintf(d.out, "it fails in wasm too, another way:\n%s\n", indented(again.Failure))
		}
		d.sayReplay(s, again)
		return nil
	}
	fmt.Fprintln(d.out, "it does not fail in wasm: another schedule.")
	if err := d.keepTrace(ctx, s, failed.kind); err != nil {
		return err
	}
	return d.searchNeighbours(ctx, m, s)
}

// machine is one that ends even a guest that spins, where that may be needed.
func (d *detective) machine(ctx context.Context, failed outcome) (m *machine, done func(), err error) {
	if failed.kind != failedHang || d.lab.limit > 0 {
		m, err = d.lab.wasm(ctx, false)
		return m, func() {}, err
	}
	m, err = d.lab.newMachine(ctx, false, hangLimit)
	if err != nil {
		return nil, nil, err
	}
	return m, m.close, nil
}

// sayReplay prints the commands that replay and shrink a failure seen in wasm.
func (d *detective) sayReplay(s scenario, seen outcome) {
	var more []string
	if seen.spun {
		more = []string{"-limit", hangLimit.String()}
	}
	fmt.Fprintf(d.out, "replay:  %s\nshrink:  %s\n\n", d.lab.command("replay", s, more...), d.lab.command("minimize", s, more...))
}

// again is the command that runs the seed the way in which it failed.
func (d *detective) again(s scenario) string {
	words := fmt.Sprintf("go run ./simulation/sim run -first %d -seeds 1", s.Seed)
	if d.volume.way == buildRace {
		words += " -race"
	}
	if d.volume.short {
		words += " -short"
	}
	if d.lab.guest != defaultGuest {
		words += " -guest " + d.lab.guest
	}
	return words
}

// keepTrace runs the seed natively until it fails once more, and keeps the trace
// of that.
func (d *detective) keepTrace(ctx context.Context, s scenario, kind failureKind) error {
	p, err := d.lab.native(ctx, d.volume.way, d.volume.short)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.volume.keep, 0o755); err != nil {
		return err
	}
	// The guest runs in another directory.
	file, err := filepath.Abs(filepath.Join(d.volume.keep, fmt.Sprintf("seed-%d.trace", s.Seed)))
	if err != nil {
		return err
	}
	tries := nativeTries
	if kind == failedHang { // each takes all of the patience
		tries = 2
	}
	for try := range tries {
		// The guest adds to the file: nothing of an earlier run may stay in it.
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		o, err := p.traced(ctx, s.Seed, file)
		if err != nil {
			return err
		}
		if o.failed() {
			fmt.Fprintf(d.out, "it failed natively again, at try %d of %d: %s\nits trace: %s\n", try+1, tries, signature(o.Failure), file)
			return nil
		}
	}
	fmt.Fprintf(d.out, "it did not fail natively again in %d tries: %s\n", tries, d.again(s))
	return os.Remove(file)
}

// searchNeighbours runs neighbouring schedules of the seed in wasm.
func (d *detective) searchNeighbours(ctx context.Context, m *machine, s scenario) error {
	neighbour := func(i int) scenario {
		other := s
		other.Neighbour = uint64(i) + 1
		return other
	}
	found := false
	err := inOrder(ctx, d.lab.workers, d.volume.neighbours, func(ctx context.Context, i int) (outcome, error) {
		return m.run(ctx, neighbour(i), nil, false)
	}, func(i int, o outcome) (bool, error) {
		if o.failed() {
			found = true
			fmt.Fprintf(d.out, "neighbour %d fails:\n%s\n", i+1, indented(o.Failure))
			d.sayReplay(neighbour(i), o)
		}
		return !found, nil
	})
	if err == nil && !found {
		fmt.Fprintf(d.out, "none of %d neighbouring schedules fails\n\n", d.volume.neighbours)
	}
	return err
}

// indented is the beginning of a failure, set off from what is said about it.
func indented(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > shownLines {
		lines = append(lines[:shownLines], fmt.Sprintf("… %d more lines", len(lines)-shownLines))
	}
	return "    " + strings.Join(lines, "\n    ")
}
