package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestSpans(t *testing.T) {
	for text, others := range map[string][]int{
		"":         {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
		"3,7-9":    {0, 1, 2, 4, 5, 6},
		"0-4,6":    {5, 7, 8, 9},
		"0-8":      {9},
		"2-100000": {0, 1},
	} {
		var s spans
		if err := s.Set(text); err != nil || s.String() != text {
			t.Errorf("%q is read as %q: %v", text, s, err)
		}
		if got := s.others(10); !slices.Equal(got, others) {
			t.Errorf("%q leaves %v, want %v", text, got, others)
		}
		if got := without(others, 10).others(10); !slices.Equal(got, others) {
			t.Errorf("without %v the others are %v", others, got)
		}
		if got := spansOf(others).others(10); slices.ContainsFunc(got, func(n int) bool { return slices.Contains(others, n) }) {
			t.Errorf("spansOf(%v) = %v", others, spansOf(others))
		}
	}
	for _, text := range []string{"x", "3-", "-3", "5-4", "1,1", "3,1-2"} {
		if err := new(spans).Set(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestSignature(t *testing.T) {
	for _, same := range [][2]string{
		{"I3: two leaders in term 5: s1, s2\nmore", "I3: two leaders in term 17: s4, s5"},
		{"panic: runtime error: index out of range [5]", "panic: runtime error: index out of range [7]"},
		{"hang: no report in 2m0s", "hang: no report in 3m10s"},
	} {
		if signature(same[0]) != signature(same[1]) {
			t.Errorf("%q and %q: %q, %q", same[0], same[1], signature(same[0]), signature(same[1]))
		}
	}
	if signature("I3: two leaders in term 5") == signature("I3: no leader in term 5") {
		t.Error("two failures have one signature")
	}
}

// TestComparison names the first line in which two traces differ.
func TestComparison(t *testing.T) {
	for _, c := range []struct{ a, b, says string }{
		{"one two three", "one two three", ""},
		{"one two three", "one zwei drei", "first in line 2:\n  two\n  zwei"},
		{"one", "one two", "first in line 2:\n  (the end)\n  two"},
		{"one two", "one", "the first trace has 2 lines, the second 1"},
	} {
		p := new(pair)
		for word := range strings.FieldsSeq(c.a) {
			p.trace.record([]byte(word))
		}
		for word := range strings.FieldsSeq(c.b) {
			p.trace.compare([]byte(word))
		}
		if got := p.difference(); got != c.says && (c.says == "" || !strings.HasSuffix(got, c.says)) {
			t.Errorf("%q and %q: %q", c.a, c.b, got)
		}
	}
	for name, change := range map[string]func(o *outcome){
		"reports": func(o *outcome) { o.Hash = "1" },
		"output":  func(o *outcome) { o.output = "1" },
		"clock":   func(o *outcome) { o.clock = 1 },
		"memory":  func(o *outcome) { o.memory = "1" },
	} {
		p := new(pair)
		change(&p.b)
		wantText(t, p.difference(), name)
	}
}

// TestShrinkerFindsThePlanted plants sets of actions that must all happen.
func TestShrinkerFindsThePlanted(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		limit := 1 + random.IntN(300)
		planted := random.Perm(limit)[:random.IntN(min(limit, 5)+1)]
		slices.Sort(planted)
		s := &shrinker{limit: limit, workers: 1 + random.IntN(3), kept: spans(nil).others(limit), progress: func() {}}
		s.fails = func(_ context.Context, keep []int) (bool, error) {
			for _, action := range planted {
				if _, ok := slices.BinarySearch(keep, action); !ok {
					return false, nil
				}
			}
			return true, nil
		}
		if err := s.shrink(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.kept, planted) {
			t.Errorf("seed %d: %v of %d left, planted were %v", seed, s.kept, limit, planted)
		}
		if s.runs > 200 {
			t.Errorf("seed %d: %d runs for %d actions", seed, s.runs, limit)
		}
	}
}

func TestInOrder(t *testing.T) {
	job := func(_ context.Context, i int) (int, error) { return i * i, nil }
	var got []int
	err := inOrder(t.Context(), 3, 10, job, func(i, square int) (bool, error) {
		got = append(got, square)
		return i < 5, nil
	})
	if want := []int{0, 1, 4, 9, 16, 25}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	broken := errors.New("broken")
	err = inOrder(t.Context(), 2, -1, func(ctx context.Context, i int) (int, error) {
		if i == 3 {
			return 0, broken
		}
		if i > 3 { // begun for nothing
			<-ctx.Done()
		}
		return i, nil
	}, func(int, int) (bool, error) { return true, nil })
	if err != broken {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = inOrder(ctx, 2, -1, job, func(i, _ int) (bool, error) {
		if i == 2 {
			cancel()
		}
		return true, nil
	})
	if err != context.Canceled {
		t.Error(err)
	}
}

// TestVerdict: what the simulation knows and never did is a failure, once there
// were seeds enough.
func TestVerdict(t *testing.T) {
	sums := newTally("native", 1)
	for seed := range uint64(enoughSeeds) {
		if err := verdict(sums); err != nil {
			t.Fatal(seed, err)
		}
		sums.add(&outcome{report: report{Seed: seed + 1, Faults: map[string]int64{"loss": 1, "delay": 0}, Checks: map[string]int64{"histories": 0}}})
	}
	err := verdict(sums)
	if err == nil || !strings.Contains(err.Error(), `["check histories" "fault delay"]`) {
		t.Error(err)
	}
	sums.add(&outcome{report: report{Seed: 301, Faults: map[string]int64{"delay": 1}, Checks: map[string]int64{"histories": 2}}})
	if err := verdict(sums); err != nil {
		t.Error(err)
	}
	sums.add(&outcome{report: report{Seed: 302, Failure: "planted\nmore"}})
	if err := verdict(sums); err == nil || sums.Failures[0].Failure != "planted" {
		t.Error(err, sums.Failures)
	}
}
