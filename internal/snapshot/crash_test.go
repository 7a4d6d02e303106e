package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// crashPoints stops the machine at every call of a path, and opens every disk that
// it may leave there.
type crashPoints struct {
	*pathRun
	depth                    vfs.Depth
	calls, states, different int
	seen                     map[left]bool
}

// left is a disk that a crash left, and whether the operation had been promised.
type left struct {
	digest   uint64
	promised bool
}

// explore runs the path once, and looks at what a crash leaves before each of its
// calls, and behind the last one.
func (c *crashPoints) explore(do func(*pathRun) error) {
	where := func(op vfs.Op) string { return fmt.Sprintf("history %d, call %d (%v)", c.seed, c.calls, op) }
	c.SetFault(func(op vfs.Op) error {
		c.calls++
		c.point(where(op), c.Mem, false, true)
		return nil
	})
	c.must(do(c.pathRun))
	c.SetFault(nil)
	c.point("at the end", c.Mem, true, true)
}

// point tests what a crash may leave at this moment.
func (c *crashPoints) point(where string, disk *vfs.Mem, promised, outer bool) {
	depth := c.depth
	if !outer {
		depth = vfs.Depth{Random: 4, Tears: 1}
	}
	for state, m := range disk.States(depth, seeded(uint64(c.states))) {
		c.states++
		key := left{m.Digest(), promised}
		if c.seen[key] {
			continue
		}
		c.seen[key] = true
		c.different++
		if where := where + ", " + state; outer && c.different%64 == 0 {
			c.interrupted(where, m.CrashClone(vfs.Nothing), promised)
		}
		c.recovers(where+", "+state, m, promised)
	}
}

// recovers opens a disk, then takes away all that the opened store has not made
// durable: what it lists must still be there.
func (c *crashPoints) recovers(where string, m *vfs.Mem, promised bool) {
	again := *c.pathRun
	again.machine = &machine{c.TB, m}
	if wrong := again.oldOrNew(promised); wrong != "" {
		c.Fatalf("%s: promised is %t: %s", where, promised, wrong)
	}
	listed := again.open().Labels()
	again.crash(vfs.Nothing)
	s := again.open()
	if now := s.Labels(); !slices.Equal(now, listed) {
		c.Fatalf("%s: it listed %v, and after a crash %v", where, listed, now)
	}
	for _, l := range listed {
		if _, err := s.Verify(l); err != nil {
			c.Fatalf("%s: after another crash: %v", where, err)
		}
	}
}

// interrupted stops the machine again at every call of an Open.
func (c *crashPoints) interrupted(where string, m *vfs.Mem, promised bool) {
	m.SetFault(func(op vfs.Op) error {
		if op.Kind.Changes() {
			c.point(fmt.Sprintf("%s, then in Open (%v)", where, op), m, promised, false)
		}
		return nil
	})
	_, err := Open(m, testDir)
	c.must(err)
	m.SetFault(nil)
}

// TestCrashAtEveryCall stops the machine at every call of every path, with the
// families of disks of vfs.States at each. What is listed then is whole, everything
// that was published is listed, nothing else, and another crash changes nothing.
func TestCrashAtEveryCall(t *testing.T) {
	var calls, states, different atomic.Int64
	variants := volume(2, 8, 40)
	depth := vfs.Depth{Random: volume(16, 64, 512), Tears: volume(1, 4, 32)}
	t.Run("paths", func(t *testing.T) {
		for i, path := range paths {
			t.Run(path.name, func(t *testing.T) {
				t.Parallel()
				sum := new(crashPoints)
				for variant := range variants {
					c := &crashPoints{pathRun: begin(t, i, variant), depth: depth, seen: make(map[left]bool)}
					c.explore(path.do)
					sum.calls, sum.states, sum.different = sum.calls+c.calls, sum.states+c.states, sum.different+c.different
				}
				t.Logf("%d histories, %d calls, %d disks, %d of them different", variants, sum.calls, sum.states, sum.different)
				calls.Add(int64(sum.calls))
				states.Add(int64(sum.states))
				different.Add(int64(sum.different))
			})
		}
	})
	t.Logf("crash points of snapshots: %d paths, %d calls, %d disks, %d of them different", len(paths), calls.Load(), states.Load(), different.Load())
}

// TestFault099_FullAtEverySector runs every path on disks that have room for no
// sector, for one, and so on, until it succeeds: what does not fit is refused as a
// whole, its space is given back, and when there is space the same call succeeds.
func TestFault099_FullAtEverySector(t *testing.T) {
	for i, path := range paths {
		for _, entries := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, names take space is %t", path.name, entries), func(t *testing.T) {
				for variant := range volume(1, 4, 20) {
					for free, full := int64(0), true; full; free++ {
						p := begin(t, i, variant)
						full = p.full(path.do, vfs.Quota{Bytes: p.Used() + free*vfs.SectorSize, Entries: entries})
					}
				}
			})
		}
	}
}

// full runs a path with a quota, and reports whether it was too small.
func (p *pathRun) full(do func(*pathRun) error, q vfs.Quota) bool {
	p.Helper()
	before := p.Used()
	p.SetQuota(&q)
	err := do(p)
	if err == nil {
		return false
	}
	if !vfs.IsNoSpace(err) || p.store != nil && !errors.Is(err, ErrNoSpace) {
		p.Fatal(err)
	}
	if p.store != nil && p.Used() != before {
		p.Fatalf("%d bytes are taken, and there were %d", p.Used(), before)
	}
	for state, left := range p.States(vfs.Depth{Random: 4}, seeded(1)) {
		again := *p
		again.machine = &machine{p.TB, left}
		if p.store == nil {
			left.SetQuota(nil) // there is no directory yet
		}
		if wrong := again.oldOrNew(false); wrong != "" {
			p.Fatalf("%v: %s: %s", err, state, wrong)
		}
	}
	p.SetQuota(nil)
	if p.seed == 0 {
		p.must(do(p))
		p.crash(vfs.Nothing)
		if wrong := p.oldOrNew(true); wrong != "" {
			p.Fatalf("%v: then there is space: %s", err, wrong)
		}
	}
	return true
}
