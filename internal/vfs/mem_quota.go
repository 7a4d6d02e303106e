package vfs

import (
	"math/bits"
	"syscall"
)

// Quota is the size of a disk, and how it behaves when it is full. Each sector that
// was written takes SectorSize bytes until the file is truncated before it, or is
// removed and closed; so does each directory. Holes take nothing.
type Quota struct {
	Bytes int64
	// Entries has a new name in a directory fail on a full disk, as it does where the
	// directory's own blocks are full. Making a directory fails in any case.
	Entries bool
	// CopyOnWrite has every write ask for space, also one over what was written.
	CopyOnWrite bool
}

// SetQuota makes the disk small; nil lifts that. A write that does not fit is
// short, with ENOSPC. A crash leaves the quota as it is.
func (m *Mem) SetQuota(q *Quota) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.quota = q
}

// Used returns how many bytes of a quota are taken.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used()
}

// used counts what readers see, and what was removed but is open.
func (m *Mem) used() int64 {
	counted := make(map[*memFile]bool)
	n := int64(0)
	count := func(f *memFile) {
		if !counted[f] {
			counted[f] = true
			n += f.written.count()
		}
	}
	var walk func(d *memDir)
	walk = func(d *memDir) {
		for _, node := range d.entries {
			if node.file != nil {
				count(node.file)
			} else {
				n++
				walk(node.dir)
			}
		}
	}
	walk(m.mu.root.dir)
	for f := range m.mu.open {
		count(f)
	}
	return n * SectorSize
}

// free is how many sectors may be written.
func (m *Mem) free() int64 { return max(0, m.mu.quota.Bytes-m.used()) / SectorSize }

// room returns how many of n bytes at off there is space for.
func (m *Mem) room(f *memFile, off, n int64) int64 {
	if m.mu.quota == nil || n == 0 {
		return n
	}
	free := m.free()
	for s := off / SectorSize; s <= (off+n-1)/SectorSize; s++ {
		if f.written.has(s) && !m.mu.quota.CopyOnWrite {
			continue
		}
		if free--; free < 0 {
			return max(0, s*SectorSize-off)
		}
	}
	return n
}

func (m *Mem) roomForEntry() error {
	if m.mu.quota != nil && m.mu.quota.Entries && m.free() == 0 {
		return syscall.ENOSPC
	}
	return nil
}

func (m *Mem) roomForDirectory() error {
	if m.mu.quota != nil && m.free() == 0 {
		return syscall.ENOSPC
	}
	return nil
}

// bitmap is a set of sectors.
type bitmap []uint64

func (b *bitmap) set(first, last int64) {
	for int64(len(*b)) <= last/64 {
		*b = append(*b, 0)
	}
	for s := first; s <= last; s++ {
		(*b)[s/64] |= 1 << (s % 64)
	}
}

func (b bitmap) has(s int64) bool { return s/64 < int64(len(b)) && b[s/64]>>(s%64)&1 != 0 }

// cut takes the sectors from first on out of the set.
func (b *bitmap) cut(first int64) {
	if first/64 >= int64(len(*b)) {
		return
	}
	(*b)[first/64] &= 1<<(first%64) - 1
	*b = (*b)[:first/64+1]
}

func (b bitmap) count() int64 {
	n := 0
	for _, word := range b {
		n += bits.OnesCount64(word)
	}
	return int64(n)
}
