// Bench compares this library with what else replicates a log in Go and with the
// floor: it builds the programs, runs each of them again and again, interleaved, as
// a process of its own, and says what came out.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/goraft/raft/bench/load"
)

// options are the command line.
type options struct {
	plan           string
	choice         block
	rounds         int
	warmup, window time.Duration
	dir, out, from string
	dry            bool
}

func main() {
	var o options
	flag.StringVar(&o.plan, "plan", "full", "what to run: full, quick, scale, which is what grows with the log and needs half an hour and 6 GB, or grid, which is every combination of the lists below")
	flag.Func("systems", "only these, separated by commas: "+strings.Join(names(), ", "), list(&o.choice.systems, systemName))
	flag.Func("workloads", "only these", list(&o.choice.workloads, word))
	flag.Func("clients", "only these numbers of clients", list(&o.choice.clients, strconv.Atoi))
	flag.Func("sizes", "only commands of so many bytes", list(&o.choice.sizes, strconv.Atoi))
	flag.Func("servers", "only these numbers of servers", list(&o.choice.servers, strconv.Atoi))
	flag.Func("entries", "only logs with so many entries", list(&o.choice.entries, strconv.Atoi))
	flag.IntVar(&o.rounds, "rounds", 0, "how many rounds, instead of the plan's")
	flag.DurationVar(&o.warmup, "warmup", 0, "how long a run warms up, instead of the plan's")
	flag.DurationVar(&o.window, "window", 0, "how long a run is measured, instead of the plan's")
	flag.StringVar(&o.dir, "dir", ".", "a directory on the disk to be measured; the data lie in a new one inside it")
	flag.StringVar(&o.out, "out", "", "where the results go; default: bin/bench/ and the plan's name")
	flag.StringVar(&o.from, "from", "", "run nothing: report the runs in this CSV file, into -out")
	flag.BoolVar(&o.dry, "n", false, "run nothing: only say how long it would take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// list parses the values between commas.
func list[T any](into *[]T, parse func(string) (T, error)) func(string) error {
	return func(text string) error {
		for _, part := range strings.Split(text, ",") {
			value, err := parse(strings.TrimSpace(part))
			if err != nil {
				return err
			}
			*into = append(*into, value)
		}
		return nil
	}
}

func word(s string) (string, error) { return s, nil }

func bench(ctx context.Context, o *options) error {
	if o.from != "" {
		return again(o)
	}
	p, err := choosePlan(o)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, p)
	if o.dry {
		return nil
	}
	root, err := sourceRoot(ctx)
	if err != nil {
		return err
	}
	if o.out == "" {
		o.out = filepath.Join(root, "bin", "bench", p.name)
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	programs, notes, err := build(ctx, root, p.systems())
	if err != nil {
		return err
	}
	for _, system := range p.systems() {
		if programs[system] == nil {
			p.leaveOut(system)
		}
	}
	data, err := dataDir(o.dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	about, err := machine(ctx, root, data)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, strings.Join(about, "\n"))
	about = append(about, p.String())
	r, err := runAll(ctx, p, programs, data, o.out, about)
	if err != nil {
		return err
	}
	r.notes = append(notes, r.notes...)
	if err := report(r, about, o.out); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.ownFailures()
}

// dataDir makes a directory inside the given one.
func dataDir(inside string) (string, error) {
	inside, err := filepath.Abs(inside) // the programs are started elsewhere
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(inside, "bench-")
}

// runAll runs the plan, and keeps a line per run while it does so.
func runAll(ctx context.Context, p *plan, programs map[string][]string, data, out string, about []string) (r *results, err error) {
	lines, err := createCSV(filepath.Join(out, "runs.csv"), about)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lines.close()) }()
	failures, err := os.Create(filepath.Join(out, "failures.log"))
	if err != nil {
		return nil, err
	}
	defer failures.Close()
	r = newResults()
	done, total := 0, p.runs()
	c := &conductor{
		plan: p,
		measure: func(system string, at cell) (load.Result, error) {
			return measure(ctx, programs[system], data, at, p, failures)
		},
		took: func(one run) error {
			done++
			fmt.Fprintf(os.Stderr, "%d/%d round %d: %s\n", done, total, one.Round, one)
			r.add(one)
			return lines.write(one)
		},
	}
	err = c.conduct(ctx)
	r.notes = append(r.notes, c.notes...)
	return r, err
}

// again reports what an earlier run kept.
func again(o *options) error {
	if o.out == "" {
		return errors.New("-from needs -out")
	}
	f, err := os.Open(o.from)
	if err != nil {
		return err
	}
	defer f.Close()
	runs, about, err := readCSV(f)
	if err != nil {
		return err
	}
	r := newResults()
	for _, one := range runs {
		r.add(one)
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	return report(r, about, o.out)
}

// report prints the tables, and writes them and the pictures to the directory.
func report(r *results, about []string, out string) error {
	var text bytes.Buffer
	for _, line := range about {
		fmt.Fprintf(&text, "- %s\n", line)
	}
	r.tables(&text)
	r.judge(&text)
	if _, err := io.Copy(os.Stdout, bytes.NewReader(text.Bytes())); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "table.md"), text.Bytes(), 0o644); err != nil {
		return err
	}
	return r.pictures(out)
}
