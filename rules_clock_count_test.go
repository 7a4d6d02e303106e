package raft

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// clockCounts says what clocked worlds met with.
type clockCounts struct {
	seeds, events int
	time          time.Duration // of the clusters
	timeouts      int64         // the same in election timeouts
	rounds        int           // of faults and rest
	// How long after the end of the faults, in election timeouts, it took at most
	// until a leader had committed, and until all servers agreed.
	slowestLeader, slowestRest float64

	elections, candidacies, deposed, relieved, resigned int
	commands, refused, commits, truncations, resets     int
	joins, leaves, rejoins, promotions, dismissed       int
	installs, fenced, begunAnew, recovered              int
	losses, copies, late, reordered, ambushes           int
	faults                                              [clockFaultKinds]int
	sizes                                               [8]int
	rates, mixed, without, calls, outOfOrder            int // seeds with that
}

// clockCounter is one count by its name.
type clockCounter struct {
	name  string
	count int
}

// progress is what the clusters did, what went wrong, and what the seeds were.
func (c *clockCounts) progress() []clockCounter {
	return []clockCounter{
		{"elections", c.elections}, {"candidacies", c.candidacies}, {"commits", c.commits}, {"commands", c.commands}, {"refused", c.refused},
		{"without a quorum", c.deposed}, {"relieved", c.relieved}, {"resigned", c.resigned}, {"truncations", c.truncations}, {"resets", c.resets},
		{"joins", c.joins}, {"leaves", c.leaves}, {"rejoins", c.rejoins}, {"promotions", c.promotions}, {"dismissed", c.dismissed},
		{"installs", c.installs}, {"fenced", c.fenced}, {"begun anew", c.begunAnew}, {"recovered", c.recovered},
	}
}

func (c *clockCounts) wrong() []clockCounter {
	all := []clockCounter{{"lost", c.losses}, {"duplicated", c.copies}, {"very late", c.late}, {"out of order", c.reordered}, {"leader cut off at once", c.ambushes}}
	for kind, n := range c.faults {
		all = append(all, clockCounter{clockFaultNames[kind], n})
	}
	return all
}

func (c *clockCounts) drawn() []clockCounter {
	all := []clockCounter{{"different clocks", c.rates}, {"no pre-votes", c.without}, {"mixed pre-votes", c.mixed}, {"calls", c.calls}, {"links without order", c.outOfOrder}}
	for n := 1; n < len(c.sizes); n++ {
		all = append(all, clockCounter{fmt.Sprintf("%d servers", n), c.sizes[n]})
	}
	return all
}

// missed are the names of what never happened.
func (c *clockCounts) missed() []string {
	var names []string
	for _, n := range slices.Concat(c.progress(), c.wrong(), c.drawn()) {
		if n.count == 0 {
			names = append(names, n.name)
		}
	}
	return names
}

func (c *clockCounts) String() string {
	var b strings.Builder
	for _, part := range []struct {
		what     string
		counters []clockCounter
	}{{"happened", c.progress()}, {"went wrong", c.wrong()}, {"seeds", c.drawn()}} {
		fmt.Fprintf(&b, "%s:", part.what)
		for i, n := range part.counters {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " %s %d", n.name, n.count)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%d election timeouts, %d times of faults and rest; after the faults at most %.1f timeouts to a leader, %.1f to one log",
		c.timeouts, c.rounds, c.slowestLeader, c.slowestRest)
	return b.String()
}

// planned counts what a seed is.
func (c *clockCounts) planned(p *clockPlan) {
	c.seeds++
	c.sizes[p.servers]++
	count := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	count(&c.rates, p.rates[0] != 0)
	count(&c.without, p.withoutPreVote == math.MaxUint16)
	count(&c.mixed, p.withoutPreVote != 0 && p.withoutPreVote != math.MaxUint16)
	count(&c.calls, p.calls)
	count(&c.outOfOrder, !p.inOrder)
}
