package main

import (
	"fmt"
	"strconv"
	"strings"
)

// A scenario says what one run of the guest is: everything that decides it, so
// that in wasm the same scenario is the same run to the last byte.
type scenario struct {
	Seed      uint64
	Neighbour uint64 // another draw of the yield points; 0 is the seed's own
	Skip      spans  // actions of the nemesis that are left out
	Short     bool   // a few virtual seconds
}

// environment is how the guest is told. Every variable is always there: what the
// environment holds is part of the run.
func (s scenario) environment() []string {
	short := ""
	if s.Short {
		short = "1"
	}
	return []string{
		"SIM_SEEDS=" + strconv.FormatUint(s.Seed, 10),
		"SIM_NEIGHBOUR=" + strconv.FormatUint(s.Neighbour, 10),
		"SIM_SKIP=" + s.Skip.String(),
		"SIM_SHORT=" + short,
	}
}

// flags is how a command of this program is told.
func (s scenario) flags() string {
	var b strings.Builder
	fmt.Fprintf(&b, "-seed %d", s.Seed)
	if s.Neighbour != 0 {
		fmt.Fprintf(&b, " -neighbour %d", s.Neighbour)
	}
	if len(s.Skip) > 0 {
		fmt.Fprintf(&b, " -skip %s", s.Skip)
	}
	if s.Short {
		b.WriteString(" -short")
	}
	return b.String()
}

// guestArguments are the same for every run: they lie in the guest's memory.
func guestArguments() []string {
	return []string{"-test.run", "^TestSeeds$", "-test.timeout", "0"}
}

// A span is a range of numbers, both ends included.
type span struct{ from, to int }

// spans is a set of numbers in rising order. As text it is "3,7-9".
type spans []span

func (s spans) String() string {
	texts := make([]string, len(s))
	for i, one := range s {
		texts[i] = strconv.Itoa(one.from)
		if one.to != one.from {
			texts[i] += "-" + strconv.Itoa(one.to)
		}
	}
	return strings.Join(texts, ",")
}

// Set reads the text; with String it makes spans a flag.
func (s *spans) Set(text string) error {
	var all spans
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		var one span
		var err error
		if one.from, err = strconv.Atoi(from); err != nil {
			return err
		}
		if one.to, err = strconv.Atoi(to); err != nil {
			return err
		}
		if one.from < 0 || one.to < one.from || len(all) > 0 && one.from <= all[len(all)-1].to {
			return fmt.Errorf("%q does not rise", text)
		}
		all = append(all, one)
	}
	*s = all
	return nil
}

// without returns the numbers below limit that are not in keep, which rises.
func without(keep []int, limit int) spans {
	var skip spans
	next := 0
	for _, k := range append(keep[:len(keep):len(keep)], limit) {
		if k > next {
			skip = append(skip, span{next, k - 1})
		}
		next = k + 1
	}
	return skip
}

// others returns the numbers below limit that are not in s.
func (s spans) others(limit int) []int {
	var rest []int
	next := 0
	for _, one := range append(s[:len(s):len(s)], span{limit, limit}) {
		for ; next < min(one.from, limit); next++ {
			rest = append(rest, next)
		}
		next = one.to + 1
	}
	return rest
}

// spansOf is the set of the numbers, which rise.
func spansOf(numbers []int) spans {
	var s spans
	for _, n := range numbers {
		if last := len(s) - 1; last >= 0 && s[last].to == n-1 {
			s[last].to = n
		} else {
			s = append(s, span{n, n})
		}
	}
	return s
}
