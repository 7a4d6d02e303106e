package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/goraft/raft/bench/load"
)

// patience is how long a run may take besides what it should before it is killed;
// for entries that are written before it has as much again.
const patience = time.Minute

// run is one measurement, or the reason why there is none.
type run struct {
	Round  int
	System string
	Cell   cell
	Result load.Result
	Err    string
}

// String is what is told while it runs.
func (r run) String() string {
	what := fmt.Sprintf("%s, %s: ", r.Cell, r.System)
	if r.Err != "" {
		return what + "FAILED: " + r.Err
	}
	return what + fmt.Sprintf("%s ops/s, p99 %s", thousands(r.Result.Rate()), short(r.Result.P99))
}

// conductor runs what a plan says, so that what is compared runs close together.
type conductor struct {
	plan    *plan
	measure func(system string, at cell) (load.Result, error)
	took    func(run) error
	notes   []string
	without map[string]bool // systems by cell that do not have its workload
}

// conduct runs all rounds. A run that fails is taken like any other.
func (c *conductor) conduct(ctx context.Context) error {
	c.without = make(map[string]bool)
	began, longest := time.Now(), time.Duration(0)
	for round := range c.plan.rounds {
		if round > 0 && c.plan.limit > 0 && time.Since(began)+longest > c.plan.limit {
			c.notes = append(c.notes, fmt.Sprintf("ended after %d of %d rounds: another would have passed the limit of %v", round, c.plan.rounds, c.plan.limit))
			break
		}
		start := time.Now()
		for _, t := range c.plan.tasks() {
			for _, system := range order(t.systems, round) {
				if ctx.Err() != nil {
					c.notes = append(c.notes, fmt.Sprintf("interrupted in round %d", round+1))
					return nil
				}
				if err := c.one(ctx, round, system, t.cell); err != nil {
					return err
				}
			}
		}
		longest = max(longest, time.Since(start))
	}
	return nil
}

func (c *conductor) one(ctx context.Context, round int, system string, at cell) error {
	where := system + " " + at.String()
	if c.without[where] {
		return nil
	}
	one := run{Round: round + 1, System: system, Cell: at}
	result, err := c.measure(system, at)
	var no load.ErrWorkload
	switch {
	case errors.As(err, &no):
		c.without[where] = true
		c.notes = append(c.notes, fmt.Sprintf("%s is left out of %s: it has no such workload", system, at))
		return nil
	case err != nil && ctx.Err() != nil:
		return nil // it did not fail: it was ended
	case err != nil:
		one.Err = err.Error()
	default:
		one.Result = result
	}
	return c.took(one)
}

// measure runs a program in a directory of its own, which it empties afterwards:
// the next one must not pay for what this one left to the kernel to write.
func measure(ctx context.Context, program []string, data string, at cell, p *plan, failures io.Writer) (result load.Result, err error) {
	dir, err := os.MkdirTemp(data, "run-")
	if err != nil {
		return result, err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(dir))
		syscall.Sync()
	}()
	within := p.lasts(at) + time.Duration(at.entries)*eachEntry + patience
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var stdout bytes.Buffer
	var stderr tail
	cmd := exec.CommandContext(limited, program[0], slices.Concat(program[1:], arguments(at, p, dir))...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(failures, "== %s: %v\n%s\n", strings.Join(cmd.Args, " "), err, stderr.kept)
		if limited.Err() != nil {
			return result, fmt.Errorf("did not end within %v", within)
		}
		return result, complaint(err, stderr.kept, at.workload)
	}
	return parse(stdout.Bytes(), at)
}

func arguments(at cell, p *plan, dir string) []string {
	return []string{
		"-workload", at.workload, "-clients", fmt.Sprint(at.clients), "-size", fmt.Sprint(at.size),
		"-servers", fmt.Sprint(at.servers), "-entries", fmt.Sprint(at.entries), "-dir", dir,
		"-warmup", p.warmup.String(), "-window", p.windowOf(at).String(),
	}
}

// parse reads the Result in the last line: some systems have their own say on
// standard output before it.
func parse(out []byte, at cell) (result load.Result, err error) {
	line := lastLine(out)
	if err := json.Unmarshal([]byte(line), &result); err != nil {
		return result, fmt.Errorf("%q is no result: %w", line, err)
	}
	c := result.Config
	if got := (cell{c.Workload, c.Servers, c.Size, c.Clients, c.Entries}); got != at {
		return result, fmt.Errorf("ran %s, not %s", got, at)
	}
	if at.clients > 0 && (result.Operations == 0 || result.Seconds <= 0) {
		return result, fmt.Errorf("%d operations in %.1f s", result.Operations, result.Seconds)
	}
	return result, nil
}

// complaint makes an error of what a failed program said last: the error that
// ended it, or the panic above a trace.
func complaint(err error, said []byte, workload string) error {
	no := load.ErrWorkload{Workload: workload}
	if lastLine(said) == no.Error() {
		return no
	}
	for line := range strings.Lines(string(said)) {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(line))
		}
	}
	return fmt.Errorf("%w: %s", err, lastLine(said))
}

func lastLine(text []byte) string {
	text = bytes.TrimSpace(text)
	return string(bytes.TrimSpace(text[bytes.LastIndexByte(text, '\n')+1:]))
}

// tailSize is enough for a panic and its trace.
const tailSize = 64 << 10

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

// Write is io.Writer's.
func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - tailSize; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}
