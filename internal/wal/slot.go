package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goraft/raft/internal/vfs"
)

const (
	slotHeaderSize = 40
	// slotFileSize is the size of a copy, unless its payload needs more: rewriting it
	// takes no space from the disk.
	slotFileSize = 4096
	// maxSlotFile bounds what is read into memory.
	maxSlotFile = 16 << 20
)

// pair keeps a small value in two files. A change is written and synced in one,
// then in the other: a crash leaves one of them whole, and once the change has
// been promised, both hold it, so that the loss of either is no step back in time.
//
// A copy is overwritten as a whole, and its checksum covers the whole file: no bit
// of it is worth less than another. One that has to be larger is replaced by a new
// file, so that a disk that is full leaves it as it was.
type pair struct {
	fsys    vfs.FS
	magic   string
	names   [2]string
	files   [2]vfs.File
	sizes   [2]int64 // of the files; 0 if there is none, or one that cannot be overwritten
	storeID uint64
	seq     uint64
	payload []byte
	buf     []byte
	newest  int      // the copy that load has taken
	single  bool     // the other one was missing or damaged
	first   int      // the copy that the next change is written to first
	bad     []string // the copies that load has found missing, damaged or behind
}

// slot is one copy, decoded.
type slot struct {
	storeID uint64
	seq     uint64
	payload []byte
}

// slotSize is the size of the file that a payload needs.
func slotSize(payload []byte) int64 {
	return max(slotFileSize, alignSector(slotHeaderSize+int64(len(payload))))
}

// encodeSlot returns the bytes of a copy in a file of the given size.
func encodeSlot(buf []byte, magic string, s slot, size int64) []byte {
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	clear(buf)
	putPrologue(buf, magic, formatVersion)
	binary.LittleEndian.PutUint64(buf[16:], s.storeID)
	binary.LittleEndian.PutUint64(buf[24:], s.seq)
	binary.LittleEndian.PutUint32(buf[32:], uint32(len(s.payload)))
	copy(buf[slotHeaderSize:], s.payload)
	binary.LittleEndian.PutUint32(buf[36:], slotChecksum(buf))
	return buf
}

func slotChecksum(b []byte) uint32 {
	sum := crc32.Checksum(b[prologueSize:36], castagnoli)
	return crc32.Update(sum, castagnoli, b[slotHeaderSize:])
}

// decodeSlot returns the copy that a file's bytes are; the payload aliases them.
func decodeSlot(file string, b []byte, magic string) (slot, error) {
	if len(b) < slotHeaderSize {
		return slot{}, corrupt(file, 0, "%d bytes do not hold the header", len(b))
	}
	if err := checkPrologue(file, b, magic); err != nil {
		return slot{}, err
	}
	if binary.LittleEndian.Uint32(b[36:]) != slotChecksum(b) {
		return slot{}, corrupt(file, 36, "the checksum does not match")
	}
	length := binary.LittleEndian.Uint32(b[32:])
	if uint64(length) > uint64(len(b)-slotHeaderSize) {
		return slot{}, corrupt(file, 32, "a length of %d in a file of %d", length, len(b))
	}
	end := slotHeaderSize + int(length)
	if !reusable(int64(len(b))) || !allZero(b[end:]) {
		return slot{}, corrupt(file, int64(end), "the file is not %d bytes and zeros", end)
	}
	return slot{
		storeID: binary.LittleEndian.Uint64(b[16:]),
		seq:     binary.LittleEndian.Uint64(b[24:]),
		payload: b[slotHeaderSize:end:end],
	}, nil
}

// reusable reports whether a copy may have this size.
func reusable(size int64) bool {
	return size >= slotFileSize && size <= maxSlotFile && size%sectorSize == 0
}

func newPair(fsys vfs.FS, dir, magic, nameA, nameB string) *pair {
	return &pair{fsys: fsys, magic: magic, names: [2]string{filepath.Join(dir, nameA), filepath.Join(dir, nameB)}}
}

// create writes both copies into fresh files. The pair exists from the first one on.
func (p *pair) create(storeID uint64, payload []byte) error {
	p.storeID, p.seq, p.payload = storeID, 1, payload
	for i := range p.names {
		if err := p.replace(i, slot{storeID, p.seq, payload}, slotSize(payload)); err != nil {
			return err
		}
	}
	return nil
}

// load reads both copies and takes the newer one. It changes nothing: see settle.
// The error is fs.ErrNotExist if there is neither.
func (p *pair) load() error {
	var (
		slots [2]slot
		errs  [2]error
	)
	p.newest = -1
	for i := range p.names {
		slots[i], errs[i] = p.read(i)
		switch {
		case lost(errs[i]):
			p.bad = append(p.bad, p.names[i])
		case errs[i] != nil:
			return errs[i]
		case p.newest < 0 || slots[i].seq > slots[p.newest].seq:
			p.newest = i
		}
	}
	if p.newest < 0 {
		// What cannot be read now may be whole: that is not proof of damage.
		if errors.Is(errs[0], fs.ErrNotExist) || errors.Is(errs[1], errUnreadable) {
			return errs[1]
		}
		return errs[0]
	}
	s, other := slots[p.newest], 1-p.newest
	if p.single = errs[other] != nil; !p.single {
		o := slots[other]
		if o.storeID != s.storeID || o.seq == s.seq && string(o.payload) != string(s.payload) {
			return corrupt(p.names[other], 0, "the two copies contradict each other")
		}
		if o.seq != s.seq {
			p.bad = append(p.bad, p.names[other])
		}
	}
	p.storeID, p.seq, p.payload = s.storeID, s.seq, s.payload
	return nil
}

// lost reports whether an error is of a copy that can be made again from the other:
// not one of a later version, which may know better. One that the disk does not give
// back may hold a newer value, but not one that was promised: that is in both.
func lost(err error) bool {
	var format *FormatError
	return errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errUnreadable) ||
		errors.As(err, &format) && format.Version == 0
}

// errUnreadable marks the error of a disk that does not give back what is in a file.
var errUnreadable = errors.New("wal: cannot be read")

// settle makes what was loaded durable in both copies, also where it seems to be
// already: what a process that was killed had written may never have been synced.
// The newer copy goes first, because it may be in the cache only, and the older one is
// what a crash leaves then. If the other one is no copy at all, the one that is there was
// durable before that one was touched, and is only overwritten when there are two of it.
func (p *pair) settle() error {
	order := [2]int{p.newest, 1 - p.newest}
	if p.single {
		order = [2]int{1 - p.newest, p.newest}
		if err := p.files[p.newest].Sync(); err != nil { // the other one may be whole, and only unreadable
			return err
		}
	}
	for _, i := range order {
		if err := p.writeCopy(i, slot{p.storeID, p.seq, p.payload}); err != nil {
			return err
		}
	}
	return nil
}

func (p *pair) read(i int) (slot, error) {
	size, err := p.open(i)
	if err != nil {
		return slot{}, err
	}
	if size > maxSlotFile {
		return slot{}, corrupt(p.names[i], maxSlotFile, "a file of %d bytes", size)
	}
	b := make([]byte, size)
	if err := readFull(p.files[i], b, 0); err != nil {
		return slot{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return decodeSlot(p.names[i], b, p.magic)
}

// open opens the file of a copy and returns its size.
func (p *pair) open(i int) (int64, error) {
	p.sizes[i] = 0
	if p.files[i] == nil {
		f, err := p.fsys.OpenFile(p.names[i], os.O_RDWR, 0)
		if err != nil {
			return 0, err
		}
		p.files[i] = f
	}
	size, err := p.files[i].Size()
	if err == nil && reusable(size) {
		p.sizes[i] = size
	}
	return size, err
}

// save makes the payload durable in both copies. After an error the pair holds the
// old value, and the disk either; after ErrNoSpace it may be tried again, also with
// another payload.
func (p *pair) save(payload []byte) error {
	if slotSize(payload) > maxSlotFile {
		return fmt.Errorf("%w: %d bytes for %s", ErrTooLarge, len(payload), p.names[0])
	}
	if err := p.change(payload); err != nil {
		// What was refused may be in a copy, as number seq+1. Another payload must never
		// get that number, and neither must the old one.
		p.seq += 2
		return err
	}
	return nil
}

func (p *pair) change(payload []byte) error {
	// Room for both comes first: if the second copy could not follow the first one, a
	// start on the full disk could not bring it up, either.
	for i := range p.files {
		if size := slotSize(payload); size > p.sizes[i] {
			if err := p.replace(i, slot{p.storeID, p.seq, p.payload}, size); err != nil {
				return err
			}
		}
	}
	next := slot{p.storeID, p.seq + 1, payload}
	for _, i := range [2]int{p.first, 1 - p.first} {
		if err := p.writeCopy(i, next); err != nil {
			// It may be torn now: the other one must stay as it is until this one is whole.
			p.first = i
			return err
		}
	}
	p.seq, p.payload, p.first = next.seq, payload, 0
	return nil
}

func (p *pair) writeCopy(i int, s slot) error {
	if slotSize(s.payload) > p.sizes[i] {
		return p.replace(i, s, slotSize(s.payload))
	}
	p.buf = encodeSlot(p.buf, p.magic, s, p.sizes[i])
	if _, err := p.files[i].WriteAt(p.buf, 0); err != nil {
		return noSpace(err)
	}
	return p.files[i].Sync()
}

// replace puts a new file of a size in the place of a copy that is missing or too
// small. It is whole from the beginning: a torn write into zeros could look like a
// file of another format.
func (p *pair) replace(i int, s slot, size int64) error {
	// Not every system renames over a file that is open.
	if f := p.files[i]; f != nil {
		p.files[i], p.sizes[i] = nil, 0
		if err := f.Close(); err != nil {
			return err
		}
	}
	p.buf = encodeSlot(p.buf, p.magic, s, size)
	err := vfs.WriteFile(p.fsys, p.names[i], p.buf)
	if err != nil {
		// What was there serves smaller payloads, if it is there. But a new name that may
		// not last serves nobody: it is replaced once more.
		if _, failed := p.open(i); failed == nil && p.sizes[i] >= size {
			p.sizes[i] = 0
		}
		return noSpace(err)
	}
	_, err = p.open(i)
	return err
}

func (p *pair) close() error {
	var errs []error
	for i, f := range p.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
		p.files[i], p.sizes[i] = nil, 0
	}
	return errors.Join(errs...)
}
