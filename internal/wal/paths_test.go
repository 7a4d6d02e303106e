package wal

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"strings"
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
	segment int64 // how large segments become; 0 is 1024
	chunk   int64 // from what size on batches are large; 0 is as always
}

// pathRun is a store with what it must remember before and after do. Each variant
// has another history; the first one is without chance.
type pathRun struct {
	*disk
	seed   uint64     // 0 is the first variant
	rng    *rand.Rand // nil in the first variant
	store  *Store
	before world
	after  world
}

func (p *pathRun) append(w *world, first, term uint64, n, size int) error {
	b := records(0, first, term, n, size)
	w.put(first, b)
	return p.store.Append(first, 0, b)
}

// about is a number, or one like it.
func (p *pathRun) about(n int) int {
	if p.rng == nil || n == 0 {
		return n
	}
	return max(1, n/2+p.rng.IntN(n+1))
}

// chance is true now and then, but not in the first variant.
func (p *pathRun) chance(n int) bool { return p.rng != nil && p.rng.IntN(n) == 0 }

// twelve is a log of twelve entries over several segments.
func twelve(p *pathRun) {
	for i := uint64(1); i <= 12; i++ {
		if p.chance(8) {
			// What was not acknowledged leaves bytes behind, and a restart that clears them.
			p.unfinished(i, 1+p.rng.IntN(3), p.rng.IntN(400))
			p.crash(vfs.Random(p.rng))
			p.store = p.disk.open()
			_, last := p.store.Bounds()
			p.must(p.store.Truncate(min(i, last+1), 0))
		}
		p.must(p.append(&p.before, i, 1, 1, p.about(150)))
		if p.chance(6) {
			p.must(p.store.Seal(0))
		}
	}
}

// unfinished appends a batch, whose sync fails.
func (p *pathRun) unfinished(first uint64, n, size int) {
	p.SetFault(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	_ = p.store.Append(first, 0, records(0, first, 1, n, size))
	p.SetFault(nil)
}

// appending is an append of n records behind twelve.
func appending(n, size int) func(*pathRun) error {
	return func(p *pathRun) error { return p.append(&p.after, 13, 1, n, p.about(size)) }
}

// appendingPieces is an append of n records, each in a buffer of its own.
func appendingPieces(n, size int) func(*pathRun) error {
	return func(p *pathRun) error {
		var pieces [][]byte
		for i := range n {
			pieces = append(pieces, records(0, uint64(13+i), 1, 1, p.about(size)))
		}
		p.after.put(13, bytes.Join(pieces, nil))
		return p.store.Append(13, 0, pieces...)
	}
}

// almostFull is twelve, and then what leaves too little space for a sector.
func almostFull(p *pathRun) {
	twelve(p)
	w := &p.store.writer
	for size := int64(1); size > 0; {
		overhead := batchSize(RecordHeaderSize + int64(len("name")))
		size = min(w.seg.allocated-w.off-overhead-rollSize-sealSpace, p.store.chunk-overhead-alignment)
		if size <= 0 {
			break
		}
		p.must(p.append(&p.before, p.before.last()+1, 1, 1, int(size)))
	}
}

// large is twelve, and a large batch behind them.
func large(p *pathRun) {
	twelve(p)
	p.must(p.append(&p.before, 13, 1, 2, 1300))
}

// next is an append of n records behind what is there.
func next(n, size int) func(*pathRun) error {
	return func(p *pathRun) error { return p.append(&p.after, p.before.last()+1, 1, n, p.about(size)) }
}

// savingHardState saves one whose name has a length.
func savingHardState(length int) func(*pathRun) error {
	return func(p *pathRun) error {
		p.after.hard = HardState{4, strings.Repeat("b", p.about(length))}
		return p.store.SaveHardState(p.after.hard)
	}
}

func (p *pathRun) truncate(first uint64) error {
	p.after.cut(first)
	return p.store.Truncate(first, 0)
}

func opening(p *pathRun) error {
	s, _, err := p.try()
	if err == nil {
		p.store = s
	}
	return err
}

// torn leaves a batch behind of which a crash has taken a part.
func torn(n, size int) func(*pathRun) {
	return func(p *pathRun) {
		twelve(p)
		p.unfinished(13, n, p.about(size))
		rng := p.rng
		if rng == nil {
			rng = seeded(4)
		}
		for whole := true; whole; {
			left := p.CrashClone(vfs.Random(rng))
			_, last := (&disk{p.TB, left.CrashClone(vfs.Everything), p.options}).open().Bounds()
			if whole = last > 12; !whole {
				p.Mem = left
			}
		}
	}
}

// closes says that the path cannot be gone again.
func (p *path) closes() bool { return strings.HasPrefix(p.name, "close") }

// makesFiles says that the path is an Open that makes files, and cannot do without space.
func (p *path) makesFiles() bool { return p.name == "first start" || p.name == oneCopy }

const oneCopy = "open with one copy of each pair"

// compacting is the path on which a crash may leave more than two states.
const compacting = "compact"

var paths = []path{
	{name: "first start", prepare: func(p *pathRun) { p.must(p.store.Close()); p.Mem = vfs.NewMem() }, do: opening},
	{name: "append", prepare: twelve, do: appending(2, 100)},
	{name: "append a byte", prepare: twelve, do: appending(1, 1)},
	{name: "append 4 KiB", segment: 16 << 10, prepare: twelve, do: appending(4, 960)},
	{name: "append 20 KiB", segment: 64 << 10, prepare: twelve, do: appending(5, 4000)},
	{name: "append behind a seal", prepare: func(p *pathRun) { twelve(p); p.must(p.store.Seal(3)) }, do: appending(3, 300)},
	{name: "append that replaces", prepare: twelve, do: func(p *pathRun) error { return p.append(&p.after, uint64(p.about(4)), 2, 3, p.about(100)) }},
	{name: "append and roll", prepare: twelve, do: appending(3, 900)},
	{name: "append and roll a large one", prepare: twelve, do: appending(4, 4000)},
	{name: "append that grows its file", segment: 64 << 10, chunk: 1 << 10, prepare: almostFull, do: next(1, 400)},
	{name: "append a large batch", segment: 64 << 10, chunk: 512, prepare: twelve, do: appending(4, 900)},
	{name: "append a large batch behind the space", segment: 64 << 10, chunk: 512, prepare: almostFull, do: next(2, 800)},
	{name: "append a large batch that almost fits", segment: 64 << 10, chunk: 512, prepare: twelve, do: func(p *pathRun) error {
		return p.append(&p.after, 13, 1, 1, int(p.store.writer.seg.allocated-p.store.writer.off)-200)
	}},
	{name: "append a large batch in pieces", segment: 64 << 10, chunk: 512, prepare: twelve, do: appendingPieces(9, 300)},
	{name: "append a large batch behind a seal", segment: 64 << 10, chunk: 512, prepare: func(p *pathRun) { twelve(p); p.must(p.store.Seal(3)) }, do: appending(3, 1200)},
	{name: "append a large batch that replaces", segment: 64 << 10, chunk: 512, prepare: twelve, do: func(p *pathRun) error { return p.append(&p.after, 5, 2, 3, p.about(900)) }},
	{name: "append large batches", segment: 64 << 10, chunk: 512, prepare: large, do: next(2, 1100)},
	{name: "append a small batch among large ones", segment: 64 << 10, chunk: 512, prepare: func(p *pathRun) {
		for range 6 {
			p.must(p.append(&p.before, p.before.last()+1, 1, 2, 1300))
		}
		if usual := p.store.writer.usual; usual < p.store.chunk {
			p.Fatal(usual)
		}
	}, do: next(1, 200)},
	{name: "append and roll a large batch", segment: 4 << 10, chunk: 512, prepare: twelve, do: appending(3, 1000)},
	{name: "close behind a large batch", segment: 64 << 10, chunk: 512, prepare: large, do: func(p *pathRun) error { return p.store.Close() }},
	{name: "truncate", prepare: twelve, do: func(p *pathRun) error { return p.truncate(uint64(p.about(6))) }},
	{name: "truncate to nothing", prepare: twelve, do: func(p *pathRun) error { return p.truncate(1) }},
	{name: "reset", prepare: twelve, do: func(p *pathRun) error {
		p.after.records, p.after.first = nil, 40
		return p.store.Reset(40, 0)
	}},
	{name: "hard state", prepare: twelve, do: savingHardState(1)},
	{name: "long hard state", prepare: twelve, do: savingHardState(3000)},
	{name: "hard state that grows its file", prepare: twelve, do: savingHardState(6000)},
	{name: "identity", prepare: func(*pathRun) {}, do: func(p *pathRun) error {
		p.after.identity = Identity{ClusterID: 8, Initial: bytes.Repeat([]byte("i"), p.about(5000))}
		return p.store.SaveIdentity(p.after.identity)
	}},
	{name: "seal", prepare: twelve, do: func(p *pathRun) error { return p.store.Seal(11) }},
	{name: "close", prepare: twelve, do: func(p *pathRun) error { return p.store.Close() }},
	{name: compacting, prepare: twelve, do: func(p *pathRun) error {
		err := p.store.Compact(10)
		p.after.first, _ = p.store.Bounds()
		p.after.records = p.before.records[p.after.first-1:]
		return err
	}},
	{name: "open", prepare: func(p *pathRun) { twelve(p); p.must(p.store.Close()) }, do: opening},
	{name: "open after a torn batch", prepare: torn(2, 500), do: opening},
	{name: "open after a torn large batch", segment: 16 << 10, prepare: torn(3, 3000), do: opening},
	{name: "open after a torn batch behind the space", segment: 64 << 10, chunk: 512, prepare: torn(3, 1500), do: opening},
	{name: oneCopy, prepare: func(p *pathRun) {
		twelve(p)
		p.must(p.store.Close())
		p.must(p.Remove(filepath.Join(testDir, stateNameA)))
		p.must(p.Remove(filepath.Join(testDir, identityNameB)))
		p.must(p.SyncDir(testDir))
	}, do: opening},
}

func (p *path) begin(t testing.TB, variant int) *pathRun {
	segment := p.segment
	if segment == 0 {
		segment = 1024
	}
	run := &pathRun{disk: newDisk(t, segment)}
	run.options.chunk = p.chunk
	if run.seed = uint64(variant); variant > 0 {
		run.rng = seeded(run.seed)
	}
	run.store = run.disk.open()
	run.before.first = 1
	p.prepare(run)
	run.after = run.before.clone()
	return run
}

// act does what the path is about; a second time it is the same.
func (p *path) act(run *pathRun) error {
	if run.seed > 0 {
		run.rng = seeded(run.seed)
	}
	return p.do(run)
}

// finds says why a store that was opened after a crash, or an error, has neither
// what was before the operation nor what is after it; only the latter is right if
// it was promised. Otherwise it returns which of them there is.
func (p *path) finds(run *pathRun, s *Store, promised bool) (found world, wrong string) {
	if wrong = run.after.differs(s); wrong == "" {
		return run.after, ""
	}
	if promised {
		return world{}, wrong
	}
	before := run.before.clone()
	if first, last := s.Bounds(); p.name == compacting && first <= 10 && last == before.last() {
		before.drop(first)
	}
	if before.differs(s) == "" {
		return before, ""
	}
	return world{}, wrong
}

// oldOrNew opens the disk, for finds.
func (p *path) oldOrNew(run *pathRun, promised bool) string {
	s := run.disk.open()
	defer s.Close()
	_, wrong := p.finds(run, s, promised)
	return wrong
}
