package vfs

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
)

// Pending is one change that a crash may keep or drop, because no Sync or SyncDir
// has made it durable. Its Op says what it is:
//
//   - OpWrite: one sector. A write of several sectors is as many changes. A sector
//     that was written with what it held already is none.
//   - OpTruncate: a new size, by Truncate or by a write that grew the file. A write
//     beyond the size that a crash leaves is cut off.
//   - Anything else: a change of a directory's entries by that call.
type Pending struct {
	Op
	Index int   // the place in the order in which the changes were made, from 0
	Whole int64 // of an OpWrite: the length of the whole write
}

// Chooser decides whether a crash keeps a change. A sector then has the newest
// content that was kept, and a file the newest size.
type Chooser func(Pending) bool

// Nothing leaves only what was synced.
func Nothing(Pending) bool { return false }

// Everything leaves all that was written, as when only the process died.
func Everything(Pending) bool { return true }

// Random draws each choice from rng. It first draws how much of what was unsynced
// tends to survive, so that lonely losses and lonely survivors are both frequent.
func Random(rng *rand.Rand) Chooser {
	keep := []float64{0.05, 0.5, 0.5, 0.95}[rng.IntN(4)]
	return func(Pending) bool { return rng.Float64() < keep }
}

// Crash stops the disk, so that every further call fails with ErrCrashed, and
// returns one that a restarted machine could find: of what was not synced, what
// the chooser keeps. Locks and the fault hook are gone.
//
// The chooser is asked file by file, in the order of their names, so that a seeded
// one repeats itself whatever goroutines wrote at the same time.
func (m *Mem) Crash(choose Chooser) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.dead = true
	return m.freeze().crash(choose)
}

// CrashClone returns what Crash would, and leaves the disk running.
func (m *Mem) CrashClone(choose Chooser) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.freeze().crash(choose)
}

// Pending returns what a crash may keep or drop, oldest first.
func (m *Mem) Pending() []Pending {
	m.mu.Lock()
	defer m.mu.Unlock()
	im := m.freeze()
	all := make([]Pending, len(im.changes))
	for i, c := range im.changes {
		all[i] = c.Pending
	}
	return all
}

// image is a disk at one moment, with what is pending. It shares only what is never
// changed with the disk that it was taken of.
type image struct {
	root    *frozen
	changes []*change // in the order in which they were made
	named   []*change // in the order of names
	quota   *Quota
	history bool
}

// change is a Pending and what it does.
type change struct {
	Pending
	at      clock
	bytes   []byte        // of a sector
	entries []frozenEntry // of a directory
}

// frozen is a file, or a directory, which has durable entries.
type frozen struct {
	file    *memFile
	durable map[string]*frozen
	changes []*change // of this file or directory, oldest first
}

type frozenEntry struct {
	name string
	node *frozen
}

func (m *Mem) freeze() *image {
	im := &image{quota: m.mu.quota, history: m.mu.history}
	im.root = im.freeze(m.mu.root, "", make(map[*memNode]*frozen))
	im.named = slices.Clone(im.changes)
	slices.SortFunc(im.changes, func(a, b *change) int { return cmp.Compare(a.at, b.at) })
	for i, c := range im.changes {
		c.Index = i
	}
	return im
}

// freeze takes a node and all that is below it, or may be after a crash.
func (im *image) freeze(n *memNode, name string, seen map[*memNode]*frozen) *frozen {
	if f := seen[n]; f != nil || n == nil {
		return f
	}
	f := new(frozen)
	seen[n] = f
	if n.file != nil {
		f.file, f.changes = n.file.freeze(name)
		im.changes = append(im.changes, f.changes...)
		return f
	}
	for _, child := range slices.Sorted(maps.Keys(n.dir.entries)) {
		im.freeze(n.dir.entries[child], clean(name+"/"+child), seen)
	}
	f.durable = make(map[string]*frozen, len(n.dir.durable))
	for _, child := range slices.Sorted(maps.Keys(n.dir.durable)) {
		f.durable[child] = im.freeze(n.dir.durable[child], clean(name+"/"+child), seen)
	}
	for _, op := range n.dir.pending {
		c := &change{Pending: Pending{Op: op.op}, at: op.at}
		for _, e := range op.entries {
			c.entries = append(c.entries, frozenEntry{e.name, im.freeze(e.node, clean(name+"/"+e.name), seen)})
		}
		f.changes = append(f.changes, c)
	}
	im.changes = append(im.changes, f.changes...)
	return f
}

func (f *memFile) freeze(name string) (*memFile, []*change) {
	var changes []*change
	for _, s := range f.sizes {
		changes = append(changes, &change{Pending: Pending{Op: Op{Kind: OpTruncate, Name: name, Offset: s.size}}, at: s.at})
	}
	for sector, versions := range f.dirty {
		start := sector * SectorSize
		before := make([]byte, SectorSize)
		if start < f.durable.size() {
			copy(before, f.durable.bytes[start:])
		}
		for _, v := range versions {
			if bytes.Equal(v.bytes, before) {
				continue
			}
			before = v.bytes
			op := Op{Kind: OpWrite, Name: name, Offset: start, Length: SectorSize}
			changes = append(changes, &change{Pending: Pending{Op: op, Whole: v.whole}, at: v.at, bytes: v.bytes})
		}
	}
	slices.SortFunc(changes, func(a, b *change) int { return cmp.Compare(a.at, b.at) })
	left := &memFile{durable: f.durable.share(), written: slices.Clone(f.written), broken: maps.Clone(f.broken)}
	if f.past != nil {
		left.past = make(map[int64][]version, len(f.past))
		for s, versions := range f.past {
			left.past[s] = slices.Clip(slices.Clone(versions))
		}
	}
	return left, changes
}

// subset is what a crash keeps, by Index; of the torn one only the first cut bytes.
type subset struct {
	kept []bool
	torn *change
	cut  int
}

func (im *image) crash(choose Chooser) *Mem {
	kept := make([]bool, len(im.changes))
	for _, c := range im.named {
		kept[c.Index] = choose(c.Pending)
	}
	return im.build(subset{kept: kept})
}

// build makes the disk that has a subset of the changes.
func (im *image) build(keep subset) *Mem {
	m := newMem(im.root.build(keep))
	m.mu.quota, m.mu.history = im.quota, im.history
	return m
}

func (f *frozen) build(keep subset) *memNode {
	if f.file != nil {
		return &memNode{file: f.buildFile(keep)}
	}
	left := maps.Clone(f.durable)
	for _, c := range f.changes {
		if !keep.kept[c.Index] {
			continue
		}
		for _, e := range c.entries {
			if e.node == nil {
				delete(left, e.name)
			} else {
				left[e.name] = e.node
			}
		}
	}
	dir := newMemDir()
	for name, child := range left {
		node := child.build(keep)
		dir.entries[name], dir.durable[name] = node, node
	}
	return &memNode{dir: dir}
}

func (f *frozen) buildFile(keep subset) *memFile {
	size := f.file.durable.size()
	for _, c := range f.changes {
		if c.Kind == OpTruncate && keep.kept[c.Index] {
			size = c.Offset
		}
	}
	left := f.file.durable
	left.shared = true
	if size != left.size() {
		left.resize(size)
	}
	for _, c := range f.changes {
		switch {
		case c.Kind == OpTruncate || !keep.kept[c.Index]:
		case c == keep.torn:
			left.put(c.bytes[:keep.cut], c.Offset)
		default:
			left.put(c.bytes, c.Offset)
		}
	}
	built := &memFile{data: left.share(), durable: left.share(), broken: maps.Clone(f.file.broken), past: maps.Clone(f.file.past)}
	built.written = slices.Clone(f.file.written)
	built.written.cut((size + SectorSize - 1) / SectorSize)
	return built
}

var digestSeed = maphash.MakeSeed()

// Digest is a hash of all names and contents that readers see, of this process
// only: disks that differ have different ones but for an accident.
func (m *Mem) Digest() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var h maphash.Hash
	h.SetSeed(digestSeed)
	m.mu.root.digest(&h)
	return h.Sum64()
}

func (n *memNode) digest(h *maphash.Hash) {
	if n.file != nil {
		maphash.WriteComparable(h, n.file.data.size())
		_, _ = h.Write(n.file.data.bytes) // never fails
		return
	}
	maphash.WriteComparable(h, -1-len(n.dir.entries))
	for _, name := range slices.Sorted(maps.Keys(n.dir.entries)) {
		maphash.WriteComparable(h, name)
		n.dir.entries[name].digest(h)
	}
}
