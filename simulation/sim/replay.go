package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
)

// scenarioFlags adds the flags that say which run is meant.
func scenarioFlags(flags *flag.FlagSet) *scenario {
	s := new(scenario)
	flags.Uint64Var(&s.Seed, "seed", 1, "the seed")
	flags.Uint64Var(&s.Neighbour, "neighbour", 0, "which of the neighbouring schedules, 0 is the seed's own")
	flags.Var(&s.Skip, "skip", "actions of the nemesis to leave out: 3,7-9")
	flags.BoolVar(&s.Short, "short", false, "a few virtual seconds")
	return s
}

func replayCommand(ctx context.Context, args []string, out io.Writer) error {
	flags, lab := commandFlags("replay")
	s := scenarioFlags(flags)
	file := flags.String("o", "", "file for the trace, instead of the standard output")
	last := flags.Int("last", 0, "only so many lines of the trace, the last ones")
	interpreter := flags.Bool("interpreter", false, "in wazero's interpreter, much slower: must do the same")
	if err := parse(flags, args); err != nil {
		return err
	}
	return lab.use(func(l *laboratory) error {
		m, err := l.wasm(ctx, *interpreter)
		if err != nil {
			return err
		}
		to, done, err := traceTo(*file, out)
		if err != nil {
			return err
		}
		o, err := m.replay(ctx, *s, to, *last)
		if err := firstError(err, done()); err != nil {
			return err
		}
		fmt.Fprintf(out, "guest %s, %d lines of trace, hash %s\n", m.guest, o.lines, o.Hash)
		if o.failed() {
			return fmt.Errorf("seed %d failed (%s):\n%s", s.Seed, o.kind, o.Failure)
		}
		fmt.Fprintf(out, "seed %d does not fail\n", s.Seed)
		return nil
	})
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// traceTo opens where the trace goes; done ends it.
func traceTo(file string, out io.Writer) (to io.Writer, done func() error, err error) {
	if file == "" {
		w := bufio.NewWriter(out)
		return w, w.Flush, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, nil, err
	}
	w := bufio.NewWriter(f)
	return w, func() error { return firstError(w.Flush(), f.Close()) }, nil
}

// replay runs the scenario and writes its trace, the last lines or all.
func (m *machine) replay(ctx context.Context, s scenario, to io.Writer, last int) (outcome, error) {
	write := func(line []byte) { // what cannot be written is told by the flush
		_, _ = to.Write(line)
		_, _ = to.Write([]byte("\n"))
	}
	if last <= 0 {
		return m.run(ctx, s, write, false)
	}
	ring := make([][]byte, last)
	n := 0
	o, err := m.run(ctx, s, func(line []byte) {
		ring[n%last] = append(ring[n%last][:0], line...)
		n++
	}, false)
	for i := max(n-last, 0); i < n; i++ {
		write(ring[i%last])
	}
	return o, err
}
