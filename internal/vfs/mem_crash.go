package vfs

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// Choice is one thing that a crash decides: which of N possible states, from 0,
// the synced one, to N-1, the newest, is on the disk afterwards.
type Choice struct {
	Name   string // the file, or the directory
	Sector int64  // of the file; -1 is its size, or a change of entries
	N      int
}

// Chooser decides what a crash leaves, with an answer from 0 to N-1; answers
// outside count as the nearest of them.
type Chooser func(Choice) int

// Nothing leaves only what was synced.
func Nothing(Choice) int { return 0 }

// Everything leaves all that was written, as when only the process died.
func Everything(c Choice) int { return c.N - 1 }

// Random draws each choice from rng. It first draws how much of what was unsynced
// tends to survive, so that lonely losses and lonely survivors are both frequent.
func Random(rng *rand.Rand) Chooser {
	keep := []float64{0.05, 0.5, 0.5, 0.95}[rng.IntN(4)]
	return func(c Choice) int {
		switch {
		case rng.Float64() < keep:
			return c.N - 1
		case rng.IntN(4) > 0:
			return 0
		}
		return rng.IntN(c.N)
	}
}

// Crash stops the disk, so that every further call fails with ErrCrashed, and
// returns one that a restarted machine could find: of what was not synced, what
// the chooser keeps. Locks and the fault hook are gone.
func (m *Mem) Crash(choose Chooser) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.dead = true
	return m.clone(choose)
}

// CrashClone returns what Crash would, and leaves the disk running.
func (m *Mem) CrashClone(choose Chooser) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clone(choose)
}

// clone makes its choices in the order of names and offsets, so that a seeded
// chooser repeats itself.
func (m *Mem) clone(choose Chooser) *Mem {
	return newMem(m.mu.root.crash("", choose))
}

func (n *memNode) crash(name string, choose Chooser) *memNode {
	if n.file != nil {
		return &memNode{file: n.file.crash(name, choose)}
	}
	left := maps.Clone(n.dir.durable)
	for _, op := range n.dir.pending {
		if pick(choose, Choice{Name: name, Sector: -1, N: 2}) == 1 {
			apply(left, op)
		}
	}
	dir := newMemDir()
	for _, child := range slices.Sorted(maps.Keys(left)) {
		node := left[child].crash(clean(name+"/"+child), choose)
		dir.entries[child], dir.durable[child] = node, node
	}
	return &memNode{dir: dir}
}

func (f *memFile) crash(name string, choose Chooser) *memFile {
	size := int64(len(f.durable))
	if n := len(f.sizes); n > 0 {
		if k := pick(choose, Choice{Name: name, Sector: -1, N: n + 1}); k > 0 {
			size = f.sizes[k-1]
		}
	}
	left := make([]byte, size)
	copy(left, f.durable)
	for _, s := range slices.Sorted(maps.Keys(f.dirty)) {
		versions := f.dirty[s]
		if k := pick(choose, Choice{Name: name, Sector: s, N: len(versions) + 1}); k > 0 {
			overlay(left, s, versions[k-1].bytes)
		}
	}
	return &memFile{data: left, durable: slices.Clone(left)}
}

func pick(choose Chooser, c Choice) int {
	return min(max(choose(c), 0), c.N-1)
}

// FlipBit inverts a bit of a file, the way a disk rots. Bit 0 is the lowest of the
// first byte. All of the file becomes durable as it is.
func (m *Mem) FlipBit(name string, bit int64) error {
	return m.edit(name, func(b []byte) ([]byte, error) {
		if bit < 0 || bit/8 >= int64(len(b)) {
			return nil, fmt.Errorf("vfs: %s has no bit %d", name, bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
		return b, nil
	})
}

// Bytes returns a copy of what readers see in a file, past any fault hook.
func (m *Mem) Bytes(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.lookupFile(name)
	if err != nil {
		return nil, err
	}
	return slices.Clone(f.data), nil
}

// SetBytes replaces the content of a file that exists, durably, past any fault hook.
func (m *Mem) SetBytes(name string, content []byte) error {
	return m.edit(name, func([]byte) ([]byte, error) { return slices.Clone(content), nil })
}

func (m *Mem) edit(name string, change func([]byte) ([]byte, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.lookupFile(name)
	if err != nil {
		return err
	}
	b, err := change(slices.Clone(f.data))
	if err != nil {
		return err
	}
	*f = memFile{data: b, durable: slices.Clone(b)}
	return nil
}

func (m *Mem) lookupFile(name string) (*memFile, error) {
	op := Op{Kind: OpOpen, Name: clean(name)}
	node, err := m.lookup(op.Name)
	if err == nil && node.file == nil {
		err = errors.New("is a directory")
	}
	if err != nil {
		return nil, opError(op, err)
	}
	return node.file, nil
}
