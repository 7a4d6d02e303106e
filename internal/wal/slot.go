package wal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goraft/raft/internal/vfs"
)

const (
	slotHeaderSize = 40
	// slotFileSize is what a copy is created with, so that rewriting it takes no
	// space from the disk.
	slotFileSize = 4096
)

// pair keeps a small value in two files. A change is written and synced in one,
// then in the other: a crash leaves one of them whole, and once the change has
// been promised, both hold it, so that the loss of either is no step back in time.
type pair struct {
	fsys    vfs.FS
	magic   string
	names   [2]string
	files   [2]vfs.File
	sizes   [2]int64 // of the files
	storeID uint64
	seq     uint64
	payload []byte
	buf     []byte
	newest  int      // the copy that load has taken
	bad     []string // the copies that load has found missing or damaged
}

// slot is one copy, decoded.
type slot struct {
	storeID uint64
	seq     uint64
	payload []byte
}

func encodeSlot(buf []byte, magic string, s slot) []byte {
	size := (slotHeaderSize + len(s.payload) + sectorSize - 1) &^ (sectorSize - 1)
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	clear(buf)
	putPrologue(buf, magic, formatVersion)
	binary.LittleEndian.PutUint64(buf[16:], s.storeID)
	binary.LittleEndian.PutUint64(buf[24:], s.seq)
	binary.LittleEndian.PutUint32(buf[32:], uint32(len(s.payload)))
	copy(buf[slotHeaderSize:], s.payload)
	binary.LittleEndian.PutUint32(buf[36:], slotChecksum(buf, len(s.payload)))
	return buf
}

func slotChecksum(b []byte, length int) uint32 {
	sum := crc32.Checksum(b[16:36], castagnoli)
	return crc32.Update(sum, castagnoli, b[slotHeaderSize:slotHeaderSize+length])
}

// decodeSlot returns the copy in b; the payload aliases it.
func decodeSlot(file string, b []byte, magic string) (slot, error) {
	if len(b) < slotHeaderSize {
		return slot{}, corrupt(file, 0, "%d bytes do not hold the header", len(b))
	}
	if err := checkPrologue(file, b, magic); err != nil {
		return slot{}, err
	}
	length := binary.LittleEndian.Uint32(b[32:])
	if uint64(length) > uint64(len(b)-slotHeaderSize) {
		return slot{}, corrupt(file, 32, "a length of %d in a file of %d", length, len(b))
	}
	if binary.LittleEndian.Uint32(b[36:]) != slotChecksum(b, int(length)) {
		return slot{}, corrupt(file, 36, "the checksum does not match")
	}
	return slot{
		storeID: binary.LittleEndian.Uint64(b[16:]),
		seq:     binary.LittleEndian.Uint64(b[24:]),
		payload: b[slotHeaderSize : slotHeaderSize+length],
	}, nil
}

func newPair(fsys vfs.FS, dir, magic, nameA, nameB string) *pair {
	return &pair{fsys: fsys, magic: magic, names: [2]string{filepath.Join(dir, nameA), filepath.Join(dir, nameB)}}
}

// create writes both copies into fresh files. The pair exists from the first one on.
func (p *pair) create(storeID uint64, payload []byte) error {
	p.storeID, p.seq, p.payload = storeID, 1, payload
	for i := range p.names {
		if err := p.replace(i); err != nil {
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
		case errors.Is(errs[i], ErrCorrupt) || errors.Is(errs[i], fs.ErrNotExist):
			p.bad = append(p.bad, p.names[i])
		case errs[i] != nil:
			return errs[i]
		case p.newest < 0 || slots[i].seq > slots[p.newest].seq:
			p.newest = i
		}
	}
	if p.newest < 0 {
		if errors.Is(errs[0], fs.ErrNotExist) {
			return errs[1]
		}
		return errs[0]
	}
	s, other := slots[p.newest], 1-p.newest
	if errs[other] == nil && (slots[other].storeID != s.storeID ||
		slots[other].seq == s.seq && string(slots[other].payload) != string(s.payload)) {
		return corrupt(p.names[other], 0, "the two copies contradict each other")
	}
	p.storeID, p.seq, p.payload = s.storeID, s.seq, s.payload
	return nil
}

// settle makes what was loaded durable in both copies, also where it seems to be
// already: what a process that was killed had written may never have been synced.
// The worse copy goes first: the better one is overwritten, by the same bytes, only
// when there are two of it.
func (p *pair) settle() error {
	other := 1 - p.newest
	if p.files[other] == nil {
		if err := p.replace(other); err != nil {
			return err
		}
	}
	for _, i := range [2]int{other, p.newest} {
		if err := p.writeCopy(i, slot{p.storeID, p.seq, p.payload}); err != nil {
			return err
		}
	}
	return nil
}

// replace puts a new file in the place of a copy. It is whole from the beginning: a
// torn write into zeros could look like a file of another format.
func (p *pair) replace(i int) error {
	content := encodeSlot(nil, p.magic, slot{p.storeID, p.seq, p.payload})
	if pad := slotFileSize - len(content); pad > 0 {
		content = append(content, make([]byte, pad)...)
	}
	if err := vfs.WriteFile(p.fsys, p.names[i], content); err != nil {
		return err
	}
	f, err := p.fsys.OpenFile(p.names[i], os.O_RDWR, 0)
	p.files[i], p.sizes[i] = f, int64(len(content))
	return err
}

func (p *pair) read(i int) (slot, error) {
	if p.files[i] == nil {
		f, err := p.fsys.OpenFile(p.names[i], os.O_RDWR, 0)
		if err != nil {
			return slot{}, err
		}
		p.files[i] = f
	}
	size, err := p.files[i].Size()
	if err != nil {
		return slot{}, err
	}
	p.sizes[i] = size
	// The length field is read first, so that no more is allocated than it says, nor
	// than there is.
	header := make([]byte, min(size, slotHeaderSize))
	if err := readFull(p.files[i], header, 0); err != nil {
		return slot{}, err
	}
	want := int64(len(header))
	if want == slotHeaderSize {
		want += int64(binary.LittleEndian.Uint32(header[32:]))
	}
	b := make([]byte, min(size, want))
	if err := readFull(p.files[i], b, 0); err != nil {
		return slot{}, err
	}
	return decodeSlot(p.names[i], b, p.magic)
}

// save makes the payload durable in both copies. After an error the pair holds the
// old value, and the disk either; after ErrNoSpace it may be tried again.
func (p *pair) save(payload []byte) error {
	next := slot{p.storeID, p.seq + 1, payload}
	// Room for both first: a start on a full disk has to bring the second copy up to
	// the first.
	for i := range p.files {
		if err := p.grow(i, int64(slotHeaderSize+len(payload))); err != nil {
			return err
		}
	}
	for i := range p.files {
		if err := p.writeCopy(i, next); err != nil {
			return err
		}
	}
	p.seq, p.payload = next.seq, payload
	return nil
}

// grow makes a copy's file long enough. What it adds is no part of the copy.
func (p *pair) grow(i int, need int64) error {
	need = (need + sectorSize - 1) &^ (sectorSize - 1)
	if p.sizes[i] >= need {
		return nil
	}
	err := allocate(p.files[i], p.sizes[i], need)
	if err == nil {
		p.sizes[i] = need
		return p.files[i].Sync()
	}
	if !vfs.IsNoSpace(err) {
		return err
	}
	if undo := p.files[i].Truncate(p.sizes[i]); undo != nil {
		return undo
	}
	return noSpace(err)
}

func (p *pair) writeCopy(i int, s slot) error {
	p.buf = encodeSlot(p.buf, p.magic, s)
	if _, err := p.files[i].WriteAt(p.buf, 0); err != nil {
		return noSpace(err)
	}
	return p.files[i].Sync()
}

func (p *pair) close() error {
	var errs []error
	for _, f := range p.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
