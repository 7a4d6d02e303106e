package wal

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// crashPoints stops the machine at every call of a path, and opens every disk that
// it may leave there.
type crashPoints struct {
	testing.TB
	path  *path
	run   *pathRun
	depth vfs.Depth
	every int // of how many disks one has its recovery interrupted, too

	calls, states, different int
	seen                     map[left]bool
	durable                  map[uint64]shown
}

// left is a disk that a crash left, and whether the operation had been promised.
type left struct {
	digest   uint64
	promised bool
}

// shown is what a store has shown its owner, who relies on it.
type shown struct {
	world
	storeID uint64
}

func (w *shown) differs(s *Store) string {
	if id := s.Identity().StoreID; id != w.storeID {
		return fmt.Sprintf("store %x, want %x", id, w.storeID)
	}
	return w.world.differs(s)
}

// explore runs the path once, and looks at what a crash leaves before each of its
// calls, and behind the last one.
func (c *crashPoints) explore(variant int) {
	c.run.SetFault(func(op vfs.Op) error {
		c.calls++
		c.point(fmt.Sprintf("history %d, call %d (%v)", variant, c.calls, op), c.run.Mem, false, c.depth, false)
		return nil
	})
	c.run.must(c.path.act(c.run))
	c.run.SetFault(nil)
	c.point(fmt.Sprintf("history %d, at the end", variant), c.run.Mem, true, c.depth, false)
}

// point tests what a crash may leave at this moment.
func (c *crashPoints) point(where string, disk *vfs.Mem, promised bool, depth vfs.Depth, nested bool) {
	for state, m := range disk.States(depth, seeded(uint64(c.states))) {
		c.states++
		key := left{m.Digest(), promised}
		if c.seen[key] {
			continue
		}
		c.seen[key] = true
		c.different++
		c.recovers(fmt.Sprintf("%s, %s", where, state), m, promised, !nested && c.different%c.every == 0)
	}
}

// recovers opens a disk. Interrupted, it stops the machine at every call of that, as
// well.
func (c *crashPoints) recovers(where string, m *vfs.Mem, promised, interrupted bool) {
	d := &disk{c.TB, m, c.run.options}
	if interrupted {
		n := 0
		m.SetFault(func(op vfs.Op) error {
			if n++; op.Kind.Changes() {
				c.point(fmt.Sprintf("%s, then at call %d of Open (%v)", where, n, op), m, promised, vfs.Depth{Random: 4, Tears: 1}, true)
			}
			return nil
		})
	}
	s, _, err := d.try()
	m.SetFault(nil)
	if err != nil {
		c.Fatalf("%s: %v", where, err)
	}
	found, wrong := c.path.finds(c.run, s, promised)
	if wrong != "" {
		c.Fatalf("%s: promised is %t: %s", where, promised, wrong)
	}
	c.stays(where, m, shown{found, s.Identity().StoreID})
}

// stays takes away all that the disk of an open store has not made durable: what the
// store shows must still be there, and it must take more.
func (c *crashPoints) stays(where string, m *vfs.Mem, want shown) {
	d := &disk{c.TB, m.CrashClone(vfs.Nothing), c.run.options}
	digest := d.Digest()
	if known, ok := c.durable[digest]; ok {
		if known.storeID != want.storeID || known.first != want.first || known.last() != want.last() || known.hard != want.hard {
			c.Fatalf("%s: one disk shows %+v and %+v", where, known, want)
		}
		return
	}
	c.durable[digest] = want
	s := d.open()
	if wrong := want.differs(s); wrong != "" {
		c.Fatalf("%s: what Open showed is gone after a crash: %s", where, wrong)
	}
	want.world = want.clone()
	next := want.last() + 1
	b := records(want.identity.ClusterID, next, 9, 1, 250)
	want.put(next, b)
	if err := s.Append(next, 0, b); err != nil {
		c.Fatalf("%s: %v", where, err)
	}
	d.crash(vfs.Nothing)
	s = d.open()
	if wrong := want.differs(s); wrong != "" {
		c.Fatalf("%s: what was appended after the crash is gone: %s", where, wrong)
	}
	if s.Torn() != nil {
		c.Fatalf("%s: torn again: %+v", where, s.Torn())
	}
}

// TestCrashAtEveryCall stops the machine at every call of every path, with the
// families of disks of vfs.States at each. Open must succeed, show everything that
// was acknowledged and nothing that was not written, and lose none of it in another
// crash.
func TestCrashAtEveryCall(t *testing.T) {
	var calls, states, different atomic.Int64
	variants := volume(2, 8, 40)
	depth := vfs.Depth{Random: volume(16, 64, 512), Tears: volume(2, 8, 64)}
	t.Run("paths", func(t *testing.T) {
		for _, path := range paths {
			t.Run(path.name, func(t *testing.T) {
				t.Parallel()
				sum := new(crashPoints)
				for variant := range variants {
					c := &crashPoints{TB: t, path: &path, run: path.begin(t, variant), depth: depth, every: 64,
						seen: make(map[left]bool), durable: make(map[uint64]shown)}
					c.explore(variant)
					sum.calls, sum.states, sum.different = sum.calls+c.calls, sum.states+c.states, sum.different+c.different
				}
				t.Logf("%d histories, %d calls, %d disks, %d of them different", variants, sum.calls, sum.states, sum.different)
				calls.Add(int64(sum.calls))
				states.Add(int64(sum.states))
				different.Add(int64(sum.different))
			})
		}
	})
	t.Logf("crash points of the log: %d paths, %d calls, %d disks, %d of them different", len(paths), calls.Load(), states.Load(), different.Load())
}

// TestLargeBatchEndsAnywhere: a large batch grows its file while it is written, so a
// crash may leave any size. The log goes on there.
func TestLargeBatchEndsAnywhere(t *testing.T) {
	kept := 0
	for _, size := range []int{700, 1981} {
		for seed := range uint64(volume(3, 10, 100)) {
			d, want := newDisk(t, 64<<10), image{first: 1}
			d.options.chunk = 512
			s := d.open()
			first, second := records(0, 1, 1, 1, 400), records(0, 2, 1, 2, size)
			d.must(s.Append(1, 0, first))
			want.put(1, first)
			was := s.writer.seg.allocated
			d.SetFault(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync {
					return vfs.ErrCrashed
				}
				return nil
			})
			if err := s.Append(2, 0, second); err == nil {
				t.Fatal("appended")
			}
			choose := vfs.Everything
			if seed > 0 {
				choose = vfs.Random(seeded(seed))
			}
			d.crash(func(p vfs.Pending) bool { return p.Kind == vfs.OpTruncate || choose(p) })
			info, err := d.Stat(d.lastSegment())
			d.must(err)
			for end := info.Size(); end >= was; end -= 56 {
				if d.endsAt(end, want, second) {
					kept++
				}
			}
		}
	}
	if kept == 0 {
		t.Fatal("the batch was never whole")
	}
}

// endsAt opens a disk whose last segment ends somewhere, and goes on until the next one.
// It reports whether the last batch is there.
func (d *disk) endsAt(end int64, want image, last []byte) bool {
	d = &disk{d.TB, d.CrashClone(vfs.Everything), d.options}
	f, err := d.OpenFile(d.lastSegment(), os.O_RDWR, 0)
	d.must(err)
	d.must(f.Truncate(end))
	d.must(f.Sync())
	s := d.open()
	want = want.clone()
	_, at := s.Bounds()
	whole := at > want.last()
	if whole {
		want.put(want.last()+1, last)
	}
	d.expect(s, want)
	if end%3 == 0 {
		d.must(s.Close())
		s = d.open()
	}
	for _, size := range []int{100, 64 << 10} {
		b := records(0, want.last()+1, 1, 1, size)
		want.put(want.last()+1, b)
		d.must(s.Append(want.last(), 0, b))
	}
	d.crash(vfs.Nothing)
	d.expect(d.open(), want)
	return whole
}
