package snapshot

import (
	"errors"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

var choosers = []func(seed uint64) vfs.Chooser{
	func(uint64) vfs.Chooser { return vfs.Nothing },
	func(uint64) vfs.Chooser { return vfs.Everything },
	func(seed uint64) vfs.Chooser { return vfs.Random(seeded(seed)) },
}

// TestErrorAtEveryCall fails every call of every path, in several ways: the error is
// reported, what is listed is whole, and a crash leaves what was before or after.
func TestErrorAtEveryCall(t *testing.T) {
	faults := map[string]error{
		"EIO":                    syscall.EIO,
		"ENOSPC":                 syscall.ENOSPC,
		"short write and EIO":    &vfs.ShortWrite{N: 20, Err: syscall.EIO},
		"short write and ENOSPC": &vfs.ShortWrite{N: 20, Err: syscall.ENOSPC},
	}
	for i, path := range paths {
		for name, fault := range faults {
			t.Run(path.name+" "+name, func(t *testing.T) {
				for round, done := 0, false; !done || round%3 > 0; round++ {
					calls, n := round/3, 0
					p := begin(t, i, 0)
					var failed vfs.Op
					p.SetFault(func(op vfs.Op) error {
						if n++; n == calls+1 {
							failed = op
							return fault
						}
						return nil
					})
					err := path.do(p)
					p.SetFault(nil)
					done = n <= calls
					if done != (err == nil) {
						t.Fatalf("call %d, %v, returns %v", calls, failed, err)
					}
					p.afterAnError(failed, err)
					if path.prepare == nil && failed.Kind != vfs.OpRemove {
						p.noTemporaries()
					}
					p.crash(choosers[round%3](uint64(round)))
					if diff := p.oldOrNew(err == nil); diff != "" {
						t.Fatalf("call %d, %v, error %v: %s", calls, failed, err, diff)
					}
				}
			})
		}
	}
}

// afterAnError checks the store as it is before a restart.
func (p *pathRun) afterAnError(op vfs.Op, err error) {
	p.Helper()
	if err != nil && op.Kind == vfs.OpWrite && vfs.IsNoSpace(err) && !errors.Is(err, ErrNoSpace) {
		p.Fatal(err)
	}
	if p.store == nil {
		return
	}
	old, new := p.is(p.store, p.before), p.is(p.store, p.after)
	if err == nil && new != "" || old != "" && new != "" {
		p.Fatalf("%v, error %v: %s; %s", op, err, old, new)
	}
	// The next one is not the worse for it.
	l := Label{2000, 3}
	if _, err := take(p.store, header(l.Index, l.Term, 3), state(6, 100)); err != nil {
		p.Fatalf("%v, and then %v", op, err)
	}
	p.holds(p.store, l, state(6, 100))
	p.must(p.store.Remove(l))
}
