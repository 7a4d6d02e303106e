package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// mishaps is a store to which one thing after another happens: calls that fail, a
// disk that is full, a process that is killed and finds the system's cache, a machine
// that loses it. What the one leaves behind is what the next one meets.
type mishaps struct {
	testing.TB
	rng     *rand.Rand
	disk    *vfs.Mem
	limit   int64
	chunk   int64
	stores  uint64
	store   *Store
	world   world // what the store shows
	others  []image
	refused []world // whose hard state or identity may be on the disk
	commit  uint64  // the highest that was ever said
	trace   []string
}

// unlocked is a disk whose locks die with the process.
type unlocked struct{ *vfs.Mem }

type freed struct{}

func (freed) Close() error                           { return nil }
func (unlocked) Lock(name string) (io.Closer, error) { return freed{}, nil }

// killed is the panic that ends a process.
type killed struct{}

func (m *mishaps) note(format string, a ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, a...))
}

func (m *mishaps) wrong(format string, a ...any) {
	m.Helper()
	m.Fatalf("%s, after\n%s", fmt.Sprintf(format, a...), strings.Join(m.trace[max(0, len(m.trace)-50):], "\n"))
}

// faults are the ways in which calls go wrong, from the nth one of their kind on.
var faults = []struct {
	name  string
	kinds []vfs.OpKind // nil is all of them
	times int
	err   func(op vfs.Op, cut int) error
}{
	{"killed", nil, 1, func(vfs.Op, int) error { panic(killed{}) }},
	{"error", nil, 1, func(vfs.Op, int) error { return syscall.EIO }},
	{"sync fails", []vfs.OpKind{vfs.OpSync}, 1, func(vfs.Op, int) error { return syscall.EIO }},
	{"no sync works", []vfs.OpKind{vfs.OpSync}, 1 << 30, func(vfs.Op, int) error { return syscall.EIO }},
	{"short write", []vfs.OpKind{vfs.OpWrite}, 1, short(syscall.EIO)},
	{"full for a moment", []vfs.OpKind{vfs.OpWrite}, 3, short(syscall.ENOSPC)},
	{"full", []vfs.OpKind{vfs.OpWrite}, 1 << 30, short(syscall.ENOSPC)},
	{"full, and no sync works", []vfs.OpKind{vfs.OpWrite, vfs.OpSync}, 1 << 30, fullAndThen(func() error { return syscall.EIO })},
	{"full, and killed", []vfs.OpKind{vfs.OpWrite, vfs.OpSync}, 1 << 30, fullAndThen(func() error { panic(killed{}) })},
	{"names are full", []vfs.OpKind{vfs.OpSyncDir, vfs.OpRemove, vfs.OpTruncate}, 2, func(vfs.Op, int) error { return syscall.ENOSPC }},
}

func short(err error) func(vfs.Op, int) error {
	return func(op vfs.Op, cut int) error {
		return &vfs.ShortWrite{N: cut % int(op.Length+1) &^ (sectorSize - 1), Err: err}
	}
}

// fullAndThen has writes find the disk full, and a sync something worse.
func fullAndThen(worse func() error) func(vfs.Op, int) error {
	return func(op vfs.Op, cut int) error {
		if op.Kind == vfs.OpSync {
			return worse()
		}
		return short(syscall.ENOSPC)(op, cut)
	}
}

// attempt is one call of the store, which a fault may hit, or a kill.
func (m *mishaps) attempt(what string, chance float64, call func() error) (err error, dead bool) {
	m.disk.SetFault(nil)
	if m.rng.Float64() < chance {
		fault, cut := faults[m.rng.IntN(len(faults))], m.rng.IntN(8<<10)
		n := m.rng.IntN([]int{4, 12, 40}[m.rng.IntN(3)])
		what += ", " + fault.name
		m.disk.SetFault(func(op vfs.Op) error {
			if fault.kinds != nil && !slices.Contains(fault.kinds, op.Kind) {
				return nil
			}
			if n--; n >= 0 || n < -fault.times {
				return nil
			}
			m.note("   hit: %v", op)
			return fault.err(op, cut)
		})
	}
	defer func() {
		if r := recover(); r != nil {
			if r != (killed{}) {
				panic(r)
			}
			dead = true
		}
		m.disk.SetFault(nil)
		m.note("%s: %v, killed: %t", what, err, dead)
	}()
	return call(), false
}

func (m *mishaps) lose() {
	m.disk = m.disk.Crash([]vfs.Chooser{vfs.Nothing, vfs.Everything, vfs.Random(m.rng), vfs.Random(m.rng)}[m.rng.IntN(4)])
	m.note("the machine loses its cache")
}

// restart opens the store until that succeeds: sooner or later nothing goes wrong.
func (m *mishaps) restart() {
	for try := 0; ; try++ {
		chance := 0.5
		if try > 4 {
			chance = 0
			m.disk.SetQuota(nil)
		}
		if m.rng.IntN(4) == 0 {
			m.limit = []int64{1024, 1000, 2048, 3333, 4096, 64 << 10}[m.rng.IntN(6)]
		}
		if m.rng.IntN(4) == 0 {
			m.chunk = []int64{0, 256, 512, 1000}[m.rng.IntN(4)]
		}
		o := Options{FS: unlocked{m.disk}, Dir: testDir, MaxSegmentBytes: m.limit, StoreID: func() uint64 { m.stores++; return m.stores }, chunk: m.chunk}
		err, dead := m.attempt("open", chance, func() (err error) {
			m.store, err = Open(o)
			return err
		})
		if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) {
			m.wrong("nothing rotted: %v", err)
		}
		if err == nil && !dead {
			m.recognize()
		}
		again := err != nil || dead || m.rng.IntN(5) == 0
		if again && m.rng.IntN(3) == 0 {
			m.lose()
		}
		if !again {
			return
		}
	}
}

// recognize finds out which of the worlds that there may be a restart has shown. From
// then on it is the one.
func (m *mishaps) recognize() {
	s, w := m.store, m.world.clone()
	for _, other := range m.refused {
		if s.HardState() == other.hard {
			w.hard = other.hard
		}
		if id := s.Identity(); id.ClusterID == other.identity.ClusterID && bytes.Equal(id.Initial, other.identity.Initial) {
			w.identity = other.identity
		}
	}
	diff := w.differs(s)
	for _, other := range m.others {
		if diff == "" {
			break
		}
		w.image = other
		diff = w.differs(s)
	}
	switch {
	case diff != "":
		m.wrong("%s", diff)
	case s.CommitIndex() > m.commit:
		m.wrong("commit index %d, and it was %d at most", s.CommitIndex(), m.commit)
	}
	w.commit = s.CommitIndex()
	m.world, m.others, m.refused = w, nil, nil
}

// say is a commit index for the next batch.
func (m *mishaps) say() uint64 {
	if m.rng.IntN(3) > 0 {
		return 0
	}
	m.commit += uint64(m.rng.IntN(3))
	return m.commit
}

// size is how long a record is; often the batch ends where a sector does.
func (m *mishaps) size() int {
	switch m.rng.IntN(6) {
	case 0:
		return m.rng.IntN(4000)
	case 1:
		begin := m.store.writer.off + batchHeaderSize + RecordHeaderSize + int64(len("name"))
		return int(alignSector(begin)-begin) + sectorSize*m.rng.IntN(3)
	}
	return m.rng.IntN(400)
}

// order draws what to do, and what is there when it is done.
func (m *mishaps) order() (what string, next world, do func() error) {
	s, rng, commit := m.store, m.rng, m.say()
	next = m.world.clone()
	first, last := s.Bounds()
	place := first + rng.Uint64N(last-first+2)
	next.commit = max(next.commit, commit)
	switch n := rng.IntN(20); {
	case n < 9:
		if n > 1 {
			place = last + 1
		}
		b := records(next.identity.ClusterID, place, rng.Uint64N(9), 1+rng.IntN(3), m.size())
		next.put(place, b)
		return fmt.Sprintf("append %d, %d bytes", place, len(b)), next, func() error { return s.Append(place, commit, b) }
	case n < 13:
		return "seal", next, func() error { return s.Seal(commit) }
	case n < 14 && place <= last:
		next.cut(place)
		return fmt.Sprint("truncate ", place), next, func() error { return s.Truncate(place, commit) }
	case n < 15:
		next.first, next.records = 1+rng.Uint64N(60), nil
		return fmt.Sprint("reset ", next.first), next, func() error { return s.Reset(next.first, commit) }
	}
	next.commit = m.world.commit
	if rng.IntN(3) > 0 {
		next.hard = HardState{rng.Uint64N(1000), strings.Repeat(string(rune('a'+rng.IntN(26))), 1+rng.IntN(3)*rng.IntN(4000))}
		return "hard state", next, func() error { return s.SaveHardState(next.hard) }
	}
	next.identity.Initial = bytes.Repeat([]byte{byte(rng.IntN(256))}, 1+rng.IntN(9000))
	if last < first {
		next.identity.ClusterID = rng.Uint64N(4)
	}
	return "identity", next, func() error { return s.SaveIdentity(next.identity) }
}

// step carries out an order, and sees to what has become of it.
func (m *mishaps) step() {
	what, next, do := m.order()
	err, dead := m.attempt(what, 0.25, do)
	over := dead || errors.Is(err, ErrFailed)
	switch {
	case over:
		m.others, m.refused = append(m.others, next.image), append(m.refused, next)
	case err == nil:
		if what == "hard state" || what == "identity" {
			m.settled(next, what)
		}
		m.world = next
	case errors.Is(err, ErrNoSpace):
		m.refused = append(m.refused, next) // of a batch nothing, which is looked at now
		if diff := m.world.image.differs(m.store); diff != "" {
			m.wrong("refused: %s", diff)
		}
	default:
		m.wrong("%v", err)
	}
	if over {
		if !dead && m.rng.IntN(2) == 0 {
			_ = m.store.Close()
		}
		if m.rng.IntN(2) == 0 {
			m.lose()
		}
		m.restart()
	}
}

// settled says that what was saved takes the place of what was refused before.
func (m *mishaps) settled(next world, what string) {
	for i := range m.refused {
		switch {
		case what == "identity":
			m.refused[i].identity = next.identity
		case next.hard != m.world.hard:
			m.refused[i].hard = next.hard
		}
	}
}

// compact removes what it may; how far it came is seen, or any place may be.
func (m *mishaps) compact() {
	first, last := m.store.Bounds()
	err, dead := m.attempt("compact", 0.3, func() error { return m.store.Compact(first + m.rng.Uint64N(last-first+2)) })
	if !dead && !errors.Is(err, ErrFailed) {
		first, _ = m.store.Bounds()
		m.world.drop(first)
		return
	}
	for ; first <= last+1; first++ {
		left := m.world.image.clone()
		left.drop(first)
		m.others = append(m.others, left)
	}
	m.restart()
}

// surroundings happen between two orders.
func (m *mishaps) surroundings() {
	switch m.rng.IntN(23) {
	case 0:
		m.lose()
		m.restart()
	case 1:
		m.note("killed")
		m.restart()
	case 2:
		_, _ = m.attempt("close", 0.3, m.store.Close)
		if m.rng.IntN(2) == 0 {
			m.lose()
		}
		m.restart()
	case 3:
		var q *vfs.Quota
		if m.rng.IntN(2) == 0 {
			q = &vfs.Quota{Bytes: m.disk.Used() + m.rng.Int64N(40*vfs.SectorSize), Entries: m.rng.IntN(2) == 0, CopyOnWrite: m.rng.IntN(2) == 0}
		}
		m.disk.SetQuota(q)
		m.note("quota %+v", q)
	case 4:
		m.compact()
	case 5:
		if diff := m.world.image.differs(m.store); diff != "" {
			m.wrong("reading: %s", diff)
		}
	}
}

// TestMishaps: as long as nothing rots, every start succeeds in the end, with all that
// was promised, and with nothing that was not asked for.
func TestMishaps(t *testing.T) {
	for seed := range uint64(volume(120, 4000, 60000)) {
		m := &mishaps{TB: t, rng: seeded(seed), disk: vfs.NewMem(), limit: 2048, world: world{image: image{first: 1}}}
		m.note("seed %d", seed)
		m.restart()
		for range 60 {
			m.step()
			m.surroundings()
		}
	}
}
