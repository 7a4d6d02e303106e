package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
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
	rng           *rand.Rand // nil in the first variant
	seed          uint64     // 0 is the first variant
}

// about is a number, or, but in the first variant, one like it.
func (p *pathRun) about(n int) int {
	if p.rng == nil {
		return n
	}
	return n/2 + p.rng.IntN(n+1)
}

// paths are the ways in which the package writes: do is what a crash or an error
// hits. All begin with one snapshot, and with a file that is not ours.
var paths = []struct {
	name    string
	prepare func(*pathRun)
	do      func(*pathRun) error
}{
	{"take", nil, func(p *pathRun) error {
		p.after[newLabel] = state(5+p.seed, p.about(300))
		return second(take(p.store, header(newLabel.Index, newLabel.Term, 2), p.after[newLabel]))
	}},
	{"take again", nil, func(p *pathRun) error {
		p.after[oldLabel] = state(5+p.seed, p.about(300))
		return second(take(p.store, header(oldLabel.Index, oldLabel.Term, 2), p.after[oldLabel]))
	}},
	{"take a large one", nil, func(p *pathRun) error {
		p.store.blockSize, p.store.syncEvery = 512, defaultSyncEvery
		p.after[newLabel] = state(5+p.seed, p.about(9000))
		return second(take(p.store, header(newLabel.Index, newLabel.Term, 2), p.after[newLabel]))
	}},
	{"take an empty one", nil, func(p *pathRun) error {
		p.after[newLabel] = []byte{}
		return second(take(p.store, header(newLabel.Index, newLabel.Term, 2), nil))
	}},
	{"receive", nil, func(p *pathRun) error {
		h := header(newLabel.Index, newLabel.Term, 2)
		p.after[newLabel] = state(5+p.seed, p.about(300))
		return second(receive(p.store, newLabel, h.ID, fileOf(p, h, p.after[newLabel]), 70))
	}},
	{"receive a large one", nil, func(p *pathRun) error {
		p.store.syncEvery = defaultSyncEvery
		h := header(newLabel.Index, newLabel.Term, 2)
		p.after[newLabel] = state(5+p.seed, p.about(9000))
		sender := newMachine(p)
		from := sender.open()
		from.blockSize = 512
		p.must(second(take(from, h, p.after[newLabel])))
		return second(receive(p.store, newLabel, h.ID, sender.bytes(newLabel), 2000))
	}},
	{"receive another copy", nil, func(p *pathRun) error {
		h := header(oldLabel.Index, oldLabel.Term, 2)
		p.after[oldLabel] = state(5+p.seed, p.about(300))
		return second(receive(p.store, oldLabel, h.ID, fileOf(p, h, p.after[oldLabel]), 70))
	}},
	{"abort", nil, func(p *pathRun) error {
		w, err := p.store.Create(header(newLabel.Index, newLabel.Term, 2))
		if err != nil {
			return err
		}
		_, err = w.Write(state(5+p.seed, p.about(300)))
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
		p.after[newLabel] = state(5+p.seed, p.about(300))
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

func begin(t testing.TB, i, variant int) *pathRun {
	p := &pathRun{machine: newMachine(t), before: make(map[Label][]byte), after: make(map[Label][]byte)}
	if p.seed = uint64(variant); variant > 0 {
		p.rng = seeded(p.seed)
	}
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
