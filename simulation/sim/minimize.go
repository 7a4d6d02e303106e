package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

func minimizeCommand(ctx context.Context, args []string, out io.Writer) error {
	flags, lab := commandFlags("minimize")
	s := scenarioFlags(flags)
	patience := flags.Duration("for", 15*time.Minute, "real time to spend; then the smallest so far is printed")
	if err := parse(flags, args); err != nil {
		return err
	}
	return lab.use(func(l *laboratory) error {
		m, err := l.wasm(ctx, false)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, *patience)
		defer cancel()
		return minimize(limited, l, m, *s, out)
	})
}

// unknownActions stands for the number of actions where the guest died before it
// could tell.
const unknownActions = 1 << 16

// minimize shrinks the fault schedule of a scenario that fails while it still
// fails the same way, and prints the smallest one found.
func minimize(ctx context.Context, l *laboratory, m *machine, s scenario, out io.Writer) error {
	began := time.Now()
	whole, err := m.run(ctx, s, nil, false)
	if err != nil {
		return err
	}
	if !whole.failed() {
		return fmt.Errorf("seed %d does not fail: nothing to shrink", s.Seed)
	}
	limit := whole.Actions
	if limit == 0 {
		limit = unknownActions
	}
	sh := &shrinker{limit: limit, workers: l.workers, kept: s.Skip.others(limit)}
	wanted := signature(whole.Failure)
	sh.fails = func(ctx context.Context, keep []int) (bool, error) {
		smaller := s
		smaller.Skip = without(keep, limit)
		o, err := m.run(ctx, smaller, nil, false)
		return o.failed() && signature(o.Failure) == wanted, err
	}
	sh.progress = func() {
		fmt.Fprintf(out, "%s: %d runs, at most %d actions\n", time.Since(began).Round(time.Second), sh.runs, len(sh.kept))
	}
	fmt.Fprintf(out, "seed %d: %s\n", s.Seed, wanted)
	err = sh.shrink(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Fprintln(out, "the time is over; this is the smallest so far")
	case err != nil:
		return err
	}
	s.Skip = without(sh.kept, limit)
	fmt.Fprintf(out, "%d actions are left in %d runs: %s\nreplay:  %s\n", len(sh.kept), sh.runs, spansOf(sh.kept), l.command("replay", s))
	return nil
}

// A shrinker looks for a small set of actions with which the run still fails, by
// delta debugging: Zeller and Hildebrandt's ddmin.
type shrinker struct {
	limit    int
	workers  int
	kept     []int // actions; with these it fails
	runs     int
	fails    func(ctx context.Context, keep []int) (bool, error)
	progress func()
}

func (s *shrinker) shrink(ctx context.Context) error {
	if err := s.cutTail(ctx); err != nil {
		return err
	}
	parts := 2
	for len(s.kept) > 0 {
		parts = min(parts, len(s.kept))
		smaller, err := s.first(ctx, s.complements(parts))
		switch {
		case err != nil:
			return err
		case smaller != nil:
			s.kept = smaller
			parts = max(parts-1, 2)
			s.progress()
		case parts == len(s.kept): // every action alone was tried
			return nil
		default:
			parts *= 2
		}
	}
	return nil
}

// cutTail drops what comes after the failure, by bisection: it is most of it.
func (s *shrinker) cutTail(ctx context.Context) error {
	for low, high := 0, len(s.kept); low < high; {
		middle := (low + high) / 2
		shorter, err := s.first(ctx, [][]int{s.kept[:middle]})
		if err != nil {
			return err
		}
		if shorter == nil {
			low = middle + 1
			continue
		}
		s.kept, high = shorter, middle
		s.progress()
	}
	return nil
}

// complements returns what is left of the kept actions without the first, the
// second, … of so many parts; without the last ones first.
func (s *shrinker) complements(parts int) [][]int {
	all := make([][]int, 0, parts)
	for i := parts - 1; i >= 0; i-- {
		from, to := i*len(s.kept)/parts, (i+1)*len(s.kept)/parts
		rest := make([]int, 0, len(s.kept)-(to-from))
		rest = append(append(rest, s.kept[:from]...), s.kept[to:]...)
		all = append(all, rest)
	}
	return all
}

// first returns the first of the candidates that fails, or nil: the same one
// however many run at once.
func (s *shrinker) first(ctx context.Context, candidates [][]int) (found []int, err error) {
	err = inOrder(ctx, s.workers, len(candidates), func(ctx context.Context, i int) (bool, error) {
		return s.fails(ctx, candidates[i])
	}, func(i int, fails bool) (bool, error) {
		s.runs++
		if fails {
			found = candidates[i]
		}
		return !fails, nil
	})
	return found, err
}
