package vfs

import (
	"fmt"
	"iter"
	"math/rand/v2"
)

// Depth says how many of the disks that a crash may leave States samples, where it
// cannot build them all.
type Depth struct {
	// Random is how many subsets of what is pending are drawn. If there are no more
	// subsets than that, each of them is built once instead.
	Random int
	// Tears is at how many bytes each sector is torn, at most at every one. 0 tears
	// none: a disk that keeps what it promises.
	Tears int
}

// maxTornWrite is the longest write whose sectors States tears.
const maxTornWrite = 4096

// States yields disks that a crash at this moment could leave, each with a name for
// messages:
//
//   - nothing of what is pending, and everything;
//   - the first k changes, for each k;
//   - the first k changes and the first bytes of the next one, if that is a sector of
//     a write of up to 4 KiB, with the old bytes behind them;
//   - everything but one change, for each of them;
//   - subsets at random, each of them also with one such sector torn at random.
//
// What is pending is fixed by the call: the disk may be used while the states are
// built, and they share nothing. They are not all different, for instance where a
// sector was kept but its file was not; see Digest.
func (m *Mem) States(d Depth, rng *rand.Rand) iter.Seq2[string, *Mem] {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &states{image: m.freeze(), depth: d, rng: rng}
	return s.all
}

type states struct {
	*image
	depth Depth
	rng   *rand.Rand
}

func (s *states) all(yield func(string, *Mem) bool) {
	n := len(s.changes)
	all := n < 62 && 1<<n <= s.depth.Random
	switch {
	case n == 0:
		yield("nothing was pending", s.build(subset{}))
	case all:
		_ = s.tears(yield) && s.everySubset(yield)
	default:
		_ = s.tears(yield) && s.prefixes(yield) && s.omissions(yield) && s.random(yield)
	}
}

// prefix keeps the first n changes.
func (s *states) prefix(n int) []bool {
	kept := make([]bool, len(s.changes))
	for i := range n {
		kept[i] = true
	}
	return kept
}

func (s *states) prefixes(yield func(string, *Mem) bool) bool {
	for n := range len(s.changes) + 1 {
		if !yield(fmt.Sprintf("the first %d of %d", n, len(s.changes)), s.build(subset{kept: s.prefix(n)})) {
			return false
		}
	}
	return true
}

// omissions leaves out each change but the last, without which it is a prefix.
func (s *states) omissions(yield func(string, *Mem) bool) bool {
	for i, c := range s.changes[:len(s.changes)-1] {
		kept := s.prefix(len(s.changes))
		kept[i] = false
		if !yield(fmt.Sprintf("all but %d (%v)", i, c.Op), s.build(subset{kept: kept})) {
			return false
		}
	}
	return true
}

func (s *states) random(yield func(string, *Mem) bool) bool {
	for i := range s.depth.Random {
		choose := Random(s.rng)
		kept := make([]bool, len(s.changes))
		for i, c := range s.changes {
			kept[i] = choose(c.Pending)
		}
		if !s.subset(fmt.Sprintf("random subset %d", i), kept, yield) {
			return false
		}
	}
	return true
}

func (s *states) everySubset(yield func(string, *Mem) bool) bool {
	for set := range 1 << len(s.changes) {
		kept := make([]bool, len(s.changes))
		for i := range kept {
			kept[i] = set>>i&1 != 0
		}
		if !s.subset(fmt.Sprintf("subset %b", set), kept, yield) {
			return false
		}
	}
	return true
}

// subset builds a subset, and again with one of its sectors torn.
func (s *states) subset(name string, kept []bool, yield func(string, *Mem) bool) bool {
	if !yield(name, s.build(subset{kept: kept})) {
		return false
	}
	var tearable []*change
	for i, c := range s.changes {
		if kept[i] && c.tearable() {
			tearable = append(tearable, c)
		}
	}
	if s.depth.Tears == 0 || len(tearable) == 0 {
		return true
	}
	torn, cut := tearable[s.rng.IntN(len(tearable))], 1+s.rng.IntN(SectorSize-1)
	return yield(fmt.Sprintf("%s, of %v only %d bytes", name, torn.Op, cut), s.build(subset{kept: kept, torn: torn, cut: cut}))
}

func (c *change) tearable() bool { return c.Kind == OpWrite && c.Whole <= maxTornWrite }

func (s *states) tears(yield func(string, *Mem) bool) bool {
	for i, c := range s.changes {
		if !c.tearable() {
			continue
		}
		for cut := range s.cuts() {
			name := fmt.Sprintf("the first %d of %d and %d bytes of %v", i, len(s.changes), cut, c.Op)
			if !yield(name, s.build(subset{kept: s.prefix(i + 1), torn: c, cut: cut})) {
				return false
			}
		}
	}
	return true
}

// cuts draws the bytes at which a sector is torn.
func (s *states) cuts() iter.Seq[int] {
	return func(yield func(int) bool) {
		const places = SectorSize - 1
		for i := range min(s.depth.Tears, places) {
			cut := i + 1
			if s.depth.Tears < places {
				cut = 1 + s.rng.IntN(places)
			}
			if !yield(cut) {
				return
			}
		}
	}
}
