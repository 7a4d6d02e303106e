package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// oldLabel and newLabel are the snapshots of the paths: by text, the old one would
// be the newer.
var (
	oldLabel = Label{9, 2}
	newLabel = Label{1000, 2}
)

// pathRun is a store with the states that must be there before and after do.
type pathRun struct {
	*machine
	store         *Store
	before, after map[Label][]byte
}

// paths are the ways in which the package writes: do is what a crash or an error
// hits. All begin with one snapshot, and with a file that is not ours.
var paths = []struct {
	name    string
	prepare func(*pathRun)
	do      func(*pathRun) error
}{
	{"take", nil, func(p *pathRun) error {
		p.after[newLabel] = state(5, 300)
		return second(take(p.store, header(newLabel.Index, newLabel.Term, 2), p.after[newLabel]))
	}},
	{"take again", nil, func(p *pathRun) error {
		p.after[oldLabel] = state(5, 300)
		return second(take(p.store, header(oldLabel.Index, oldLabel.Term, 2), p.after[oldLabel]))
	}},
	{"take an empty one", nil, func(p *pathRun) error {
		p.after[newLabel] = []byte{}
		return second(take(p.store, header(newLabel.Index, newLabel.Term, 2), nil))
	}},
	{"receive", nil, func(p *pathRun) error {
		h := header(newLabel.Index, newLabel.Term, 2)
		p.after[newLabel] = state(5, 300)
		return second(receive(p.store, newLabel, h.ID, fileOf(p, h, p.after[newLabel]), 70))
	}},
	{"receive another copy", nil, func(p *pathRun) error {
		h := header(oldLabel.Index, oldLabel.Term, 2)
		p.after[oldLabel] = state(5, 300)
		return second(receive(p.store, oldLabel, h.ID, fileOf(p, h, p.after[oldLabel]), 70))
	}},
	{"abort", nil, func(p *pathRun) error {
		w, err := p.store.Create(header(newLabel.Index, newLabel.Term, 2))
		if err != nil {
			return err
		}
		_, err = w.Write(state(5, 300))
		return errors.Join(err, w.Abort())
	}},
	{"remove", nil, func(p *pathRun) error {
		delete(p.after, oldLabel)
		return p.store.Remove(oldLabel)
	}},
	{"open", func(p *pathRun) {
		p.put(Name(oldLabel)+".1.tmp", []byte("left over"))
		p.put(Name(newLabel)+".2.tmp", nil)
	}, func(p *pathRun) error { return p.again() }},
	{"open after a kill", func(p *pathRun) {
		// A process that was killed between renaming and syncing the directory.
		killed := false
		p.SetFault(func(op vfs.Op) error {
			if killed = killed || op.Kind == vfs.OpSyncDir; killed {
				return syscall.EIO
			}
			return nil
		})
		p.after[newLabel] = state(5, 300)
		_ = second(take(p.store, header(newLabel.Index, newLabel.Term, 2), p.after[newLabel]))
		p.SetFault(nil)
	}, func(p *pathRun) error { return p.again() }},
	{"first start", func(p *pathRun) {
		p.Mem, p.store = vfs.NewMem(), nil
		clear(p.before)
	}, func(p *pathRun) error { return p.again() }},
}

const foreign = "2_9.ss.bak"

func (p *pathRun) again() error {
	s, err := p.try()
	if err == nil {
		p.store = s
	}
	return err
}

func begin(t testing.TB, i int) *pathRun {
	p := &pathRun{machine: newMachine(t), before: make(map[Label][]byte), after: make(map[Label][]byte)}
	p.store = p.open()
	p.put(foreign, []byte("not ours"))
	p.before[oldLabel] = state(4, 200)
	_, err := take(p.store, header(oldLabel.Index, oldLabel.Term, 1), p.before[oldLabel])
	p.must(err)
	if paths[i].prepare != nil {
		paths[i].prepare(p)
	}
	for l, b := range p.before {
		p.after[l] = b
	}
	return p
}

// is says how what is listed is not what is wanted, or nothing.
func (p *pathRun) is(s *Store, want map[Label][]byte) string {
	p.Helper()
	found := s.Labels()
	if len(found) != len(want) || !slices.IsSortedFunc(found, newestFirst) {
		return fmt.Sprint("labels ", found)
	}
	for _, l := range found {
		if _, err := s.Verify(l); err != nil {
			p.Fatal("torn under its final name: ", err)
		}
		if got, err := contents(s, l); err != nil || !bytes.Equal(got, want[l]) {
			return fmt.Sprintf("%s holds %d other bytes, %v", Name(l), len(got), err)
		}
	}
	return ""
}

// oldOrNew opens the disk, which must hold what was before do or what is after it;
// the latter if it was promised.
func (p *pathRun) oldOrNew(promised bool) string {
	p.Helper()
	s := p.open()
	p.noTemporaries()
	if b, err := p.Bytes(testDir + "/" + foreign); len(p.before) > 0 && (err != nil || string(b) != "not ours") {
		return "a file that is not ours is gone"
	}
	diff := p.is(s, p.after)
	if diff == "" || !promised && p.is(s, p.before) == "" {
		return ""
	}
	return diff
}

var choosers = []func(seed uint64) vfs.Chooser{
	func(uint64) vfs.Chooser { return vfs.Nothing },
	func(uint64) vfs.Chooser { return vfs.Everything },
	func(seed uint64) vfs.Chooser { return vfs.Random(seeded(seed)) },
}

// TestCrashAtEveryCall stops the machine at every call of every path, with several
// possible disks at each.
func TestCrashAtEveryCall(t *testing.T) {
	for i, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			calls := 0
			for done := false; !done; calls++ {
				for seed := range uint64(6) {
					p := begin(t, i)
					n := 0
					p.SetFault(func(vfs.Op) error {
						if n++; n > calls {
							return vfs.ErrCrashed
						}
						return nil
					})
					err := path.do(p)
					p.SetFault(nil)
					done = n <= calls
					p.crash(choosers[min(seed, 2)](seed))
					if diff := p.oldOrNew(err == nil); diff != "" {
						t.Fatalf("call %d, seed %d, error %v: %s", calls, seed, err, diff)
					}
				}
			}
			t.Logf("%d calls", calls-1)
		})
	}
}

// TestErrorAtEveryCall fails every call of every path, in several ways: the error is
// reported, what is listed is whole, and a crash leaves what was before or after.
func TestErrorAtEveryCall(t *testing.T) {
	faults := map[string]error{
		"EIO":         syscall.EIO,
		"ENOSPC":      syscall.ENOSPC,
		"short write": &vfs.ShortWrite{N: 20, Err: syscall.ENOSPC},
	}
	for i, path := range paths {
		for name, fault := range faults {
			t.Run(path.name+" "+name, func(t *testing.T) {
				for round, done := 0, false; !done || round%3 > 0; round++ {
					calls, n := round/3, 0
					p := begin(t, i)
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
