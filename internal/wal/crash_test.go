package wal

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// path is one way in which the store writes: prepare brings it to the point, do is
// what a crash or an error hits.
type path struct {
	name    string
	prepare func(*pathRun)
	do      func(*pathRun) error
}

// pathRun is a store with what it must remember before and after do.
type pathRun struct {
	*disk
	store  *Store
	before world
	after  world
}

func (p *pathRun) append(w *world, first, term uint64, n, size int) error {
	b := records(0, first, term, n, size)
	w.put(first, b)
	return p.store.Append(first, 0, b)
}

// twelve is a log of twelve entries over several segments.
func twelve(p *pathRun) {
	for i := uint64(1); i <= 12; i++ {
		p.must(p.append(&p.before, i, 1, 1, 150))
	}
}

var paths = []path{
	{"append", twelve, func(p *pathRun) error { return p.append(&p.after, 13, 1, 2, 100) }},
	{"append that replaces", twelve, func(p *pathRun) error { return p.append(&p.after, 4, 2, 3, 100) }},
	{"append and roll", twelve, func(p *pathRun) error { return p.append(&p.after, 13, 1, 3, 900) }},
	{"truncate", twelve, func(p *pathRun) error { p.after.cut(6); return p.store.Truncate(6, 0) }},
	{"truncate to nothing", twelve, func(p *pathRun) error { p.after.cut(1); return p.store.Truncate(1, 0) }},
	{"reset", twelve, func(p *pathRun) error {
		p.after.records, p.after.first = nil, 40
		return p.store.Reset(40, 0)
	}},
	{"hard state", twelve, func(p *pathRun) error {
		p.after.hard = HardState{4, "b"}
		return p.store.SaveHardState(p.after.hard)
	}},
	{"identity", func(*pathRun) {}, func(p *pathRun) error {
		p.after.identity = Identity{ClusterID: 8, Initial: make([]byte, 5000)}
		return p.store.SaveIdentity(p.after.identity)
	}},
	{"seal", twelve, func(p *pathRun) error { return p.store.Seal(11) }},
	{"close", twelve, func(p *pathRun) error { return p.store.Close() }},
	{"compact", twelve, func(p *pathRun) error {
		err := p.store.Compact(10)
		p.after.first, _ = p.store.Bounds()
		p.after.records = p.before.records[p.after.first-1:]
		return err
	}},
	{"open", func(p *pathRun) { twelve(p); p.must(p.store.Close()) }, func(p *pathRun) error {
		s, _, err := p.try()
		if err == nil {
			p.store = s
		}
		return err
	}},
	{"open after a torn batch", func(p *pathRun) {
		twelve(p)
		p.SetFault(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		_ = p.store.Append(13, 0, records(0, 13, 1, 2, 500))
		p.SetFault(nil)
		p.crash(vfs.Random(seeded(4)))
	}, func(p *pathRun) error { _, _, err := p.try(); return err }},
	{"first start", func(p *pathRun) { p.must(p.store.Close()); p.Mem = vfs.NewMem() }, func(p *pathRun) error {
		s, _, err := p.try()
		if err == nil {
			p.store = s
		}
		return err
	}},
}

func (p *path) begin(t testing.TB) *pathRun {
	run := &pathRun{disk: newDisk(t, 1024)}
	run.store = run.disk.open()
	run.before.first = 1
	p.prepare(run)
	run.after = run.before.clone()
	return run
}

// oldOrNew opens the disk, which must hold what was before the operation or what
// is after it; the latter if it was promised.
func (p *pathRun) oldOrNew(promised bool) string {
	s := p.disk.open()
	defer s.Close()
	found := p.after.differs(s)
	if found == "" {
		return ""
	}
	if !promised {
		// A compaction that was cut short has removed some of the segments.
		if first, last := s.Bounds(); first > p.before.first && last == p.before.last() {
			p.before.drop(first)
		}
		if p.before.differs(s) == "" {
			return ""
		}
	}
	return found
}

// TestCrashAtEveryCall stops the machine at every call of every path, with several
// possible disks at each.
func TestCrashAtEveryCall(t *testing.T) {
	seeds := scale(10)
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			calls := 0
			for done := false; !done; calls++ {
				for seed := range seeds {
					run := path.begin(t)
					n := 0
					run.SetFault(func(vfs.Op) error {
						if n++; n > calls {
							return vfs.ErrCrashed
						}
						return nil
					})
					err := path.do(run)
					run.SetFault(nil)
					done = n <= calls
					run.crash([]vfs.Chooser{vfs.Nothing, vfs.Everything, vfs.Random(seeded(seed))}[min(seed, 2)])
					if diff := run.oldOrNew(err == nil); diff != "" {
						t.Fatalf("call %d, seed %d, error %v: %s", calls, seed, err, diff)
					}
				}
			}
			t.Logf("%d calls", calls-1)
		})
	}
}

// TestErrorAtEveryCall fails every call of every path, in several ways: the error
// is reported, what was promised stays, and what follows is refused or works.
func TestErrorAtEveryCall(t *testing.T) {
	faults := map[string]func(vfs.Op) error{
		"EIO":         func(vfs.Op) error { return syscall.EIO },
		"ENOSPC":      func(vfs.Op) error { return syscall.ENOSPC },
		"short write": func(vfs.Op) error { return &vfs.ShortWrite{N: 40, Err: syscall.ENOSPC} },
	}
	for i, path := range paths {
		for name, fault := range faults {
			if scale(10) != 10 && i%4 != 0 {
				continue
			}
			t.Run(fmt.Sprint(path.name, " ", name), func(t *testing.T) {
				for round, done := 0, false; !done || round%2 == 1; round++ {
					calls := round / 2
					run := path.begin(t)
					n := 0
					run.SetFault(func(op vfs.Op) error {
						if n++; n == calls+1 {
							return fault(op)
						}
						return nil
					})
					err := path.do(run)
					run.SetFault(nil)
					done = n <= calls
					if done && err != nil {
						t.Fatal(err)
					}
					var again error
					if err != nil && run.store != nil {
						again = run.store.SaveHardState(HardState{Term: 77})
						if errors.Is(err, ErrFailed) && !errors.Is(again, ErrFailed) && !errors.Is(again, ErrClosed) {
							t.Fatalf("call %d: %v, and then %v", calls, err, again)
						}
						if again == nil {
							run.before.hard, run.after.hard = HardState{Term: 77}, HardState{Term: 77}
						}
					}
					_ = run.store.Close()
					run.crash([]vfs.Chooser{vfs.Nothing, vfs.Everything}[round%2])
					if diff := run.oldOrNew(err == nil); diff != "" {
						t.Fatalf("call %d, error %v, then %v: %s", calls, err, again, diff)
					}
				}
			})
		}
	}
}
