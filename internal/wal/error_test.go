package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// diskFault fails the call at which it is set off, and, if it lasts, all later ones.
type diskFault struct {
	name  string
	errno syscall.Errno
	short bool // a write comes through in part
	lasts bool
}

// A sync that fails loses what it should have written, and the next one succeeds:
// see vfs.Mem.
var diskFaults = []diskFault{
	{name: "EIO", errno: syscall.EIO},
	{name: "EIO for good", errno: syscall.EIO, lasts: true},
	{name: "short write and EIO", errno: syscall.EIO, short: true},
	{name: "ENOSPC", errno: syscall.ENOSPC},
	{name: "ENOSPC for good", errno: syscall.ENOSPC, lasts: true},
	{name: "short write and ENOSPC", errno: syscall.ENOSPC, short: true},
}

func (f *diskFault) fail(op vfs.Op) error {
	if f.short {
		return &vfs.ShortWrite{N: int(min(op.Length/2, 40)), Err: f.errno}
	}
	return f.errno
}

// failing runs a path with a fault at one of its calls, which is returned; its Kind
// is 0 if there are fewer.
func (f *diskFault) failing(p *path, run *pathRun, call int) (hit vfs.Op, err error) {
	n := 0
	run.SetFault(func(op vfs.Op) error {
		if n++; n == call || f.lasts && n > call {
			if n == call {
				hit = op
			}
			return f.fail(op)
		}
		return nil
	})
	err = p.act(run)
	run.SetFault(nil)
	return hit, err
}

// TestErrorAtEveryCall fails every call of every path, in several ways: the error is
// reported and says what it is, an error of a sync is final, what was promised stays,
// and a store that is opened again shows what is there for good.
func TestErrorAtEveryCall(t *testing.T) {
	sample := oneOf(4, 1, 1)
	for i, path := range paths {
		for j, fault := range diskFaults {
			if (i+j)%sample != 0 {
				continue
			}
			t.Run(path.name+" "+fault.name, func(t *testing.T) {
				t.Parallel()
				calls := 0
				for variant := range volume(1, 2, 20) {
					for hit, call := true, 1; hit; call++ {
						run := path.begin(t, variant)
						op, err := fault.failing(&path, run, call)
						if hit = op.Kind != 0; hit {
							calls++
						}
						run.failed(&path, &fault, op, err)
					}
				}
				t.Logf("%d calls", calls)
			})
		}
	}
}

// harmless reports whether an error of a call may go unreported: the handle of a file
// that was removed is not missed; and what Stat cannot tell is asked again.
func harmless(p *path, op vfs.Op) bool {
	return p.name == compacting && op.Kind == vfs.OpClose || op.Kind == vfs.OpStat
}

// overcome reports whether a call did without the space that one write has not found:
// Open erases what is torn as a whole if it can, and else each sector that has something.
func overcome(p *path, fault *diskFault, op vfs.Op) bool {
	return strings.HasPrefix(p.name, "open after a torn") && fault.errno == syscall.ENOSPC && op.Kind == vfs.OpWrite && op.Length > sectorSize
}

// failed checks a store whose call has failed.
func (p *pathRun) failed(path *path, fault *diskFault, op vfs.Op, err error) {
	p.Helper()
	switch {
	case op.Kind == 0 && err != nil:
		p.Fatal(err)
	case op.Kind == vfs.OpRead && err == nil && slices.ContainsFunc(p.store.Repaired(), func(name string) bool { return filepath.Base(name) == filepath.Base(op.Name) }):
		// Told, and made again from the other copy.
	case op.Kind != 0 && err == nil && !harmless(path, op) && !overcome(path, fault, op):
		p.Fatalf("%v fails, and nobody is told", op)
	case err != nil && !errors.Is(err, fault.errno):
		p.Fatalf("%v: %v", op, err)
	case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat):
		p.Fatalf("%v is taken for damage: %v", op, err)
	}
	where := fmt.Sprintf("%v, %v", op, err)
	promised := err == nil
	p.refuses(where, err)
	for state, left := range p.States(vfs.Depth{Random: 4, Tears: 1}, seeded(uint64(op.Offset))) {
		again := *p
		again.disk = &disk{p.TB, left, p.options}
		if wrong := path.oldOrNew(&again, promised); wrong != "" {
			p.Fatalf("%s: %s: %s", where, state, wrong)
		}
	}
	if errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrFailed) && !path.closes() {
		p.must(path.act(p)) // there is space again
		promised = true
	}
	_ = p.store.Close()
	p.reopens(where, path, promised)
}

// refuses checks that nothing is acknowledged by a store that has failed.
func (p *pathRun) refuses(where string, err error) {
	s := p.store
	if !errors.Is(err, ErrFailed) || errors.Is(s.Seal(0), ErrClosed) {
		return
	}
	_, last := s.Bounds()
	for what, again := range map[string]error{
		"append":     s.Append(last+1, 0, records(s.Identity().ClusterID, last+1, 9, 1, 10)),
		"truncate":   s.Truncate(last, 0),
		"reset":      s.Reset(50, 0),
		"seal":       s.Seal(1 << 40),
		"hard state": s.SaveHardState(HardState{Term: 77}),
		"identity":   s.SaveIdentity(s.Identity()),
		"compact":    s.Compact(1),
	} {
		if !errors.Is(again, ErrFailed) {
			p.Fatalf("%s: then %s: %v", where, what, again)
		}
	}
}

// reopens opens the store in the same life of the machine, where the cache shows what
// the disk may not have. What it shows must be there after a crash.
func (p *pathRun) reopens(where string, path *path, promised bool) {
	s := p.disk.open()
	want, wrong := path.finds(p, s, promised)
	if wrong != "" {
		p.Fatalf("%s: opened again: %s", where, wrong)
	}
	p.crash(vfs.Nothing)
	if wrong := want.differs(p.disk.open()); wrong != "" {
		p.Fatalf("%s: what was shown again is gone: %s", where, wrong)
	}
}
