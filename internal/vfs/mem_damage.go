package vfs

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

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
	return slices.Clone(f.data.bytes), nil
}

// SetBytes replaces the content of a file that exists, durably, past any fault hook.
func (m *Mem) SetBytes(name string, content []byte) error {
	return m.edit(name, func([]byte) ([]byte, error) { return slices.Clone(content), nil })
}

// SetSector replaces a sector of a file, as far as the file reaches, durably, past
// any fault hook: by another one, by zeros, or by one of its own Versions, which is
// then a stale one.
func (m *Mem) SetSector(name string, sector int64, content []byte) error {
	return m.edit(name, func(b []byte) ([]byte, error) {
		start := sector * SectorSize
		if start < 0 || start >= int64(len(b)) || len(content) != SectorSize {
			return nil, fmt.Errorf("vfs: %s has no sector %d, or %d bytes are none", name, sector, len(content))
		}
		copy(b[start:], content)
		return b, nil
	})
}

// RecordHistory has the disk remember every version of the sectors of files that
// are created from now on; see Versions.
func (m *Mem) RecordHistory() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.history = true
}

// Versions returns what was written to a sector since the file was created, oldest
// first, also before a crash and under an earlier name.
func (m *Mem) Versions(name string, sector int64) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.lookupFile(name)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, v := range f.past[sector] {
		all = append(all, slices.Clone(v.bytes))
	}
	return all, nil
}

// BreakSectors has reads of n sectors of a file fail with EIO, also after a crash,
// each until it is written as a whole. A write of a part of one fails, too.
func (m *Mem) BreakSectors(name string, first, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.lookupFile(name)
	if err != nil {
		return err
	}
	if f.broken == nil {
		f.broken = make(map[int64]bool)
	}
	for s := first; s < first+n; s++ {
		f.broken[s] = true
	}
	return nil
}

// readable returns how many of n bytes at off come before a broken sector.
func (f *memFile) readable(off, n int64) int64 {
	for s := range f.broken {
		if start := s * SectorSize; start < off+n && start+SectorSize > off {
			n = max(0, start-off)
		}
	}
	return n
}

// mends repairs the broken sectors of a range that is written, or says that one of
// them is not written as a whole.
func (f *memFile) mends(from, to int64) error {
	for s := range f.broken {
		start, end := s*SectorSize, (s+1)*SectorSize
		if start < to && from < end && (start < from || to < end) {
			return syscall.EIO
		}
	}
	for s := range f.broken {
		if from <= s*SectorSize && (s+1)*SectorSize <= to {
			delete(f.broken, s)
		}
	}
	return nil
}

// edit changes a file, durably.
func (m *Mem) edit(name string, change func([]byte) ([]byte, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.lookupFile(name)
	if err != nil {
		return err
	}
	b, err := change(slices.Clone(f.data.bytes))
	if err != nil {
		return err
	}
	f.data = content{bytes: b, used: int64(len(b)), shared: true}
	f.durable = f.data
	f.dirty, f.sizes = nil, nil
	f.written = nil
	if len(b) > 0 {
		f.written.set(0, int64(len(b)-1)/SectorSize)
	}
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
