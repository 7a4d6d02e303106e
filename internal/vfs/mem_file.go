package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// SectorSize is what a Mem, like the log, takes for the unit that a disk writes
// whole or not at all.
const SectorSize = 512

// memFile is what a reader sees, and what a crash may leave: durable, with any of
// the versions of each dirty sector over it, at the durable or one of the later
// sizes. Sectors beyond what durable holds read as zeros.
type memFile struct {
	data    []byte
	durable []byte
	dirty   map[int64][]version
	sizes   []int64
}

// version is the content of a sector after a write. A lost one was there when a
// Sync failed: the system forgot that it has to be written, though readers still
// see it, and only writing the sector again brings it to the disk.
type version struct {
	bytes []byte
	lost  bool
}

func (f *memFile) write(p []byte, off int64) {
	end := off + int64(len(p))
	f.resize(max(end, int64(len(f.data))))
	copy(f.data[off:], p)
	f.touch(off, end)
}

func (f *memFile) truncate(size int64) {
	old := int64(len(f.data))
	if size < old {
		clear(f.data[size:])
	}
	f.resize(size)
	if size < old {
		f.touch(size, old)
	}
}

func (f *memFile) resize(size int64) {
	if size == int64(len(f.data)) {
		return
	}
	f.data = grow(f.data, size)
	f.sizes = append(f.sizes, size)
}

// grow cuts or extends b with zeros. What lies between the length and the capacity
// of the slices here is always zero.
func grow(b []byte, size int64) []byte {
	if size <= int64(cap(b)) {
		if size < int64(len(b)) {
			clear(b[size:])
		}
		return b[:size]
	}
	bigger := make([]byte, size, size+size/2)
	copy(bigger, b)
	return bigger
}

// touch records what the sectors of a range hold now.
func (f *memFile) touch(from, to int64) {
	if from >= to {
		return
	}
	if f.dirty == nil {
		f.dirty = make(map[int64][]version)
	}
	first, last := from/SectorSize, (to-1)/SectorSize
	image := make([]byte, (last-first+1)*SectorSize)
	if start := first * SectorSize; start < int64(len(f.data)) {
		copy(image, f.data[start:])
	}
	for s := first; s <= last; s++ {
		at := (s - first) * SectorSize
		f.dirty[s] = append(f.dirty[s], version{bytes: image[at : at+SectorSize : at+SectorSize]})
	}
}

func (f *memFile) sync() {
	f.durable = grow(f.durable, int64(len(f.data)))
	f.sizes = nil
	for s, versions := range f.dirty {
		if newest := versions[len(versions)-1]; !newest.lost {
			overlay(f.durable, s, newest.bytes)
			delete(f.dirty, s)
		}
	}
}

func (f *memFile) lose() {
	for _, versions := range f.dirty {
		for i := range versions {
			versions[i].lost = true
		}
	}
}

// overlay puts a sector into a file, as far as the file reaches.
func overlay(b []byte, sector int64, bytes []byte) {
	if start := sector * SectorSize; start < int64(len(b)) {
		copy(b[start:], bytes)
	}
}

// memHandle is an open file of a Mem.
type memHandle struct {
	m        *Mem
	file     *memFile
	name     string
	readOnly bool
	closed   bool // guarded by m.mu
}

var errReadOnly = errors.New("opened for reading only")

// begin is Mem.begin, for an open handle.
func (h *memHandle) begin(op Op) error {
	op.Name = h.name
	if err := h.m.begin(op); err != nil {
		return err
	}
	if h.closed {
		h.m.mu.Unlock()
		return opError(op, fs.ErrClosed)
	}
	return nil
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	op := Op{Kind: OpRead, Offset: off, Length: int64(len(p))}
	if err := h.begin(op); err != nil {
		return 0, err
	}
	defer h.m.mu.Unlock()
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= int64(len(h.file.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.file.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	op := Op{Kind: OpWrite, Offset: off, Length: int64(len(p))}
	err := h.begin(op)
	var short *ShortWrite
	if errors.As(err, &short) && short.N > 0 && h.begin(Op{Kind: opResume}) == nil {
		p = p[:min(short.N, len(p))]
	} else if err != nil {
		return 0, err
	}
	defer h.m.mu.Unlock()
	if h.readOnly {
		return 0, opError(Op{Kind: OpWrite, Name: h.name}, errReadOnly)
	}
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	h.file.write(p, off)
	return len(p), err
}

func (h *memHandle) Truncate(size int64) error {
	if err := h.begin(Op{Kind: OpTruncate, Offset: size}); err != nil {
		return err
	}
	defer h.m.mu.Unlock()
	if h.readOnly {
		return opError(Op{Kind: OpTruncate, Name: h.name}, errReadOnly)
	}
	if size < 0 {
		return fs.ErrInvalid
	}
	h.file.truncate(size)
	return nil
}

// Sync that fails leaves behind what a failed fsync does: see version.
func (h *memHandle) Sync() error {
	if err := h.begin(Op{Kind: OpSync}); err != nil {
		h.m.mu.Lock()
		h.file.lose()
		h.m.mu.Unlock()
		return err
	}
	defer h.m.mu.Unlock()
	h.file.sync()
	return nil
}

func (h *memHandle) Size() (int64, error) {
	if err := h.begin(Op{Kind: OpSize}); err != nil {
		return 0, err
	}
	defer h.m.mu.Unlock()
	return int64(len(h.file.data)), nil
}

// Close closes the handle even when a fault makes it return an error.
func (h *memHandle) Close() error {
	err := h.begin(Op{Kind: OpClose})
	if err != nil {
		h.m.mu.Lock()
	}
	h.closed = true
	h.m.mu.Unlock()
	return err
}
