package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"reflect"
	"time"
)

func checkCommand(ctx context.Context, args []string, out io.Writer) error {
	flags, lab := commandFlags("check")
	first := flags.Uint64("first", 1, "the first seed")
	seeds := flags.Int("seeds", 20, "how many seeds to run twice")
	short := flags.Bool("short", false, "a few virtual seconds a seed")
	interpreted := flags.Int("interpreted", 1, "how many short seeds to run in the interpreter as well")
	if err := parse(flags, args); err != nil {
		return err
	}
	return lab.use(func(l *laboratory) error {
		return check(ctx, l, *first, *seeds, *interpreted, *short, out)
	})
}

// check runs seeds twice in wasm, and short ones in the interpreter as well. The
// two runs must agree in everything, down to the guest's memory.
func check(ctx context.Context, l *laboratory, first uint64, seeds, interpreted int, short bool, out io.Writer) error {
	compiled, err := l.wasm(ctx, false)
	if err != nil {
		return err
	}
	var slow *machine
	if interpreted > 0 {
		if slow, err = l.wasm(ctx, true); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "guest %s\n", compiled.guest)
	began := time.Now()
	var virtual time.Duration
	distinct := make(map[string]bool)
	bad := 0
	err = inOrder(ctx, l.workers, interpreted+seeds, func(ctx context.Context, i int) (*pair, error) {
		if i < interpreted { // these take longest, so they begin first
			return runPair(ctx, compiled, slow, scenario{Seed: first + uint64(i), Short: true})
		}
		return runPair(ctx, compiled, compiled, scenario{Seed: first + uint64(i-interpreted), Short: short})
	}, func(i int, p *pair) (bool, error) {
		virtual += time.Duration(p.a.VirtualNS)
		what := "twice"
		if i < interpreted {
			what = "compiled and interpreted"
		} else {
			distinct[p.a.Hash] = true
		}
		fmt.Fprintf(out, "%s %s: hash %s, %d lines, %d readings of the clock\n", p.scenario.flags(), what, p.a.Hash, p.a.lines, p.a.clock)
		if difference := p.difference(); difference != "" {
			bad++
			fmt.Fprintf(out, "DIFFERS: %s\n", difference)
		}
		if p.a.failed() {
			bad++
			fmt.Fprintf(out, "FAILS (%s):\n%s\nreplay:  %s\n", p.a.kind, indented(p.a.Failure), l.command("replay", p.scenario))
		}
		return true, nil
	})
	switch {
	case err != nil:
		return err
	case bad > 0:
		return fmt.Errorf("%d of %d pairs differ or fail", bad, interpreted+seeds)
	case len(distinct) != seeds:
		return fmt.Errorf("%d seeds have only %d traces: the seed does not decide", seeds, len(distinct))
	}
	fmt.Fprintf(out, "%d seeds twice and %d interpreted: all equal; %s virtual in %s\n",
		seeds, interpreted, virtual.Round(time.Second), time.Since(began).Round(time.Second))
	return nil
}

// A pair is two runs of one scenario, which must be the same.
type pair struct {
	scenario scenario
	a, b     outcome
	trace    comparison
}

func runPair(ctx context.Context, one, other *machine, s scenario) (*pair, error) {
	p := &pair{scenario: s}
	var err error
	if p.a, err = one.run(ctx, s, p.trace.record, true); err != nil {
		return nil, err
	}
	p.b, err = other.run(ctx, s, p.trace.compare, true)
	return p, err
}

// difference says in what the runs differ, the earliest sign first; "" if in
// nothing.
func (p *pair) difference() string {
	switch {
	case p.trace.different != "":
		return p.trace.different
	case p.trace.at != len(p.trace.ends):
		return fmt.Sprintf("the first trace has %d lines, the second %d", len(p.trace.ends), p.trace.at)
	case !reflect.DeepEqual(p.a.report, p.b.report):
		return fmt.Sprintf("the reports:\n%+v\n%+v", p.a.report, p.b.report)
	case p.a.output != p.b.output:
		return fmt.Sprintf("the output:\n%s\n%s", p.a.output, p.b.output)
	case p.a.clock != p.b.clock:
		return fmt.Sprintf("the clock was read %d and %d times", p.a.clock, p.b.clock)
	case p.a.memory != p.b.memory:
		return fmt.Sprintf("the memory of the guest: %s and %s", p.a.memory, p.b.memory)
	}
	return ""
}

// A comparison records a trace and holds another one against it.
type comparison struct {
	text      []byte
	ends      []int // of the lines in text
	at        int   // line of the other trace
	different string
}

func (c *comparison) record(line []byte) {
	c.text = append(c.text, line...)
	c.ends = append(c.ends, len(c.text))
}

func (c *comparison) line(i int) []byte {
	from := 0
	if i > 0 {
		from = c.ends[i-1]
	}
	return c.text[from:c.ends[i]]
}

func (c *comparison) compare(line []byte) {
	if c.different == "" {
		want := []byte("(the end)")
		if c.at < len(c.ends) {
			want = c.line(c.at)
		}
		if !bytes.Equal(line, want) {
			c.different = fmt.Sprintf("the traces, first in line %d:\n  %s\n  %s", c.at+1, want, line)
		}
	}
	c.at++
}
