package wal

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// worn is a store of 64 KiB that was closed in order: segments that are full,
// with batches of every kind, and both values that are kept twice.
type worn struct {
	*disk
	world
	files    map[string][]byte // every file by its path
	previous map[string][]byte // and with the sectors as they were before each one's last write
	last     string            // the path of the last segment
	scratch  *vfs.Mem          // a disk that is like this one, or nil
}

func newWorn(t testing.TB) *worn {
	w := &worn{disk: newDisk(t, 16<<10), files: map[string][]byte{}, previous: map[string][]byte{}}
	w.world = world{image: image{first: 1}, identity: Identity{Initial: bytes.Repeat([]byte("initial"), 600)}, hard: HardState{9, "n2"}}
	s := w.disk.open()
	w.SetFault(w.remember)
	for term := uint64(1); term < w.hard.Term; term++ {
		w.must(s.SaveHardState(HardState{term, "n1"}))
	}
	w.must(s.SaveIdentity(Identity{Initial: []byte("before")}))
	w.must(s.SaveIdentity(w.identity))
	w.must(s.SaveHardState(w.hard))
	for i := 0; s.writer.seg.header.number < 4 || s.writer.off < 16<<10-4*sectorSize; i++ {
		w.write(s, uint64(i))
	}
	w.must(s.Close())
	w.SetFault(nil)
	for _, name := range w.names() {
		w.files[name], _ = w.Bytes(name)
	}
	w.last = w.lastSegment()
	w.commit = s.CommitIndex()
	return w
}

// write is one step of the log's life.
func (w *worn) write(s *Store, i uint64) {
	next, commit := w.image.last()+1, w.image.last()
	switch {
	case i%11 == 5:
		w.must(s.Seal(commit))
		return
	case i%13 == 7:
		w.must(s.Truncate(next-3, 0))
		w.cut(next - 3)
		return
	case i%17 == 3 && next > 9:
		next -= 4
	}
	b := records(0, next, 1+i/10, 1+int(i%3), 20+int(i*i%90))
	w.must(s.Append(next, commit/2, b))
	w.put(next, b)
}

// remember keeps of each sector what it held before it was written last.
func (w *worn) remember(op vfs.Op) error {
	name := op.Name
	if op.Kind != vfs.OpWrite || filepath.Ext(name) == vfs.TempSuffix {
		return nil
	}
	before, err := w.Bytes(name)
	if err != nil {
		return err
	}
	old := w.previous[name]
	for end := max(int64(len(before)), op.Offset+op.Length); int64(len(old)) < end; {
		old = append(old, 0)
	}
	for at := op.Offset &^ (sectorSize - 1); at < op.Offset+op.Length; at += sectorSize {
		clear(old[at:min(at+sectorSize, int64(len(old)))])
		if at < int64(len(before)) {
			copy(old[at:min(at+sectorSize, int64(len(old)))], before[at:])
		}
	}
	w.previous[name] = old
	return nil
}

// names are the paths of the files, but for the lock.
func (w *worn) names() (paths []string) {
	names, err := w.ReadDir(testDir)
	w.must(err)
	for _, name := range names {
		if name != lockName {
			paths = append(paths, filepath.Join(testDir, name))
		}
	}
	return paths
}

// copies reports whether a file is one of two copies.
func copies(path string) bool { return filepath.Ext(path) == "" }

// The ways in which damage is found.
const (
	refused  = "refused"  // Open fails with a typed error, and has changed nothing
	repaired = "repaired" // Open tells of the copy, which is as it was
	cutOff   = "cut"      // Open tells of a torn tail, and every entry is there
	unseen   = "unseen"   // Open tells of nothing, and everything is there
)

// found opens a store of which some files have other contents, and says how that
// was found.
func (w *worn) found(what string, damage map[string][]byte) string {
	if w.scratch == nil {
		w.scratch = w.CrashClone(vfs.Nothing)
	}
	for path, content := range damage {
		w.must(w.scratch.SetBytes(path, content))
	}
	got := w.outcome(what, w.scratch)
	if got != refused {
		w.scratch = nil
		return got
	}
	for path := range damage {
		w.must(w.scratch.SetBytes(path, w.files[path]))
	}
	return got
}

// outcome opens a store that was damaged, and says how that was found.
func (w *worn) outcome(what string, damaged *vfs.Mem) string {
	changed := false
	damaged.SetFault(func(op vfs.Op) error {
		switch op.Kind {
		case vfs.OpWrite, vfs.OpTruncate, vfs.OpRemove, vfs.OpRename:
			changed = true
		}
		return nil
	})
	defer damaged.SetFault(nil)
	o := w.options
	o.FS = damaged
	s, err := Open(o)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			w.Fatalf("%s: %v", what, err)
		}
		if changed {
			w.Fatalf("%s: refused, and changed", what)
		}
		return refused
	}
	if diff := w.world.differs(s); diff != "" {
		w.Fatalf("%s: taken for true, torn %+v, repaired %v: %s", what, s.Torn(), s.Repaired(), diff)
	}
	for _, path := range s.Repaired() {
		b, err := damaged.Bytes(path)
		w.must(err)
		want := w.files[path]
		n := len(bytes.TrimRight(want, "\x00"))
		if _, err := decodeSlot(path, b, string(want[:8])); err != nil || !bytes.Equal(b[slotHeaderSize:n], want[slotHeaderSize:n]) {
			w.Fatalf("%s: %s was not made again: %v", what, path, err)
		}
	}
	switch {
	case len(s.Repaired()) > 0:
		return repaired
	case s.Torn() != nil:
		return cutOff
	}
	return unseen
}

// flip returns the content of a file with a bit inverted.
func (w *worn) flip(path string, bit int64) []byte {
	b := bytes.Clone(w.files[path])
	b[bit/8] ^= 1 << (bit % 8)
	return b
}

// bits are the bits of a file that this run looks at, one in stride by default. The
// step between them is odd, so that it meets every place within a byte.
func bits(size, stride int) (all []int64) {
	total := int64(size) * 8
	step := total/int64(volume(int(total)/stride, int(total)/7, int(total))) | 1
	for bit := int64(0); bit < total; bit += step {
		all = append(all, bit)
	}
	return all
}

// TestFault095_EveryBitIsFoundByOpen: there is no bit in a store that may rot
// unnoticed, and none that costs an entry, a term or a vote in silence.
func TestFault095_EveryBitIsFoundByOpen(t *testing.T) {
	w := newWorn(t)
	count, size := map[string]int{}, 0
	for path, content := range w.files {
		size += len(content)
		want := refused
		if copies(path) {
			want = repaired
		}
		for _, bit := range bits(len(content), 61) {
			got := w.found(fmt.Sprintf("%s bit %d", path, bit), map[string][]byte{path: w.flip(path, bit)})
			// The last batch is the seal, in a sector of its own, with zeros behind it.
			if got != want && (path != w.last || got != cutOff || bit/8 < sealOf(content)) {
				t.Fatalf("%s bit %d of %d: %s, want %s", path, bit, len(content)*8, got, want)
			}
			count[got]++
		}
	}
	if size < 80<<10 {
		t.Fatalf("%d bytes", size)
	}
	t.Logf("%d bytes: %v", size, count)
}

// sealOf is where the last sector of a segment begins that is not zero.
func sealOf(segment []byte) int64 {
	end := len(segment)
	for end > 0 && segment[end-1] == 0 {
		end--
	}
	return int64(end-1) &^ (sectorSize - 1)
}

// TestFault106_BothCopiesRotAreRefused: with both copies hit there is nothing to
// go by.
func TestFault106_BothCopiesRotAreRefused(t *testing.T) {
	w := newWorn(t)
	for _, pair := range [][2]string{{identityNameA, identityNameB}, {stateNameA, stateNameB}} {
		a, b := filepath.Join(testDir, pair[0]), filepath.Join(testDir, pair[1])
		other := bits(len(w.files[b]), 61)
		for i, bit := range bits(len(w.files[a]), 61) {
			damage := map[string][]byte{a: w.flip(a, bit), b: w.flip(b, other[i*7%len(other)])}
			if got := w.found(fmt.Sprintf("%s bit %d, %s", a, bit, b), damage); got != refused {
				t.Fatalf("%s bit %d and %s: %s", a, bit, b, got)
			}
		}
	}
}

// TestFault106_UnreadableCopyIsMadeAgain: a copy that the disk does not give back is
// as good as lost, and one is enough.
func TestFault106_UnreadableCopyIsMadeAgain(t *testing.T) {
	for _, pair := range [][2]string{{identityNameA, identityNameB}, {stateNameA, stateNameB}} {
		for i, name := range pair {
			d, want := filled(t, 2048, 5, 95)
			d.must(d.BreakSectors(filepath.Join(testDir, name), 3, 1))
			s := d.open()
			d.expect(s, want)
			if got := s.Repaired(); len(got) != 1 || filepath.Base(got[0]) != name {
				t.Errorf("%s cannot be read: repaired %q", name, got)
			}
			d.must(s.Close())
			d.crash(vfs.Nothing)
			s = d.open()
			if got := s.Repaired(); len(got) != 0 {
				t.Errorf("%s, for the second time: repaired %q", name, got)
			}
			d.must(s.Close())
			for _, name := range pair {
				d.must(d.BreakSectors(filepath.Join(testDir, name), int64(i), 1))
			}
			if _, _, err := d.try(); !errors.Is(err, syscall.EIO) {
				t.Errorf("neither copy can be read: %v", err)
			}
		}
	}
}

// TestFault096_EveryBitIsFoundByRead: what rots while the store is open is found
// before a byte of it is handed out.
func TestFault096_EveryBitIsFoundByRead(t *testing.T) {
	w := newWorn(t)
	s := w.disk.open()
	first, last := s.Bounds()
	want := bytes.Join(w.records, nil)
	found, outside := 0, 0
	for path, content := range w.files {
		if copies(path) {
			continue
		}
		for _, bit := range bits(len(content), 151) {
			w.must(w.FlipBit(path, bit))
			b, err := s.Read(nil, first, last, 1<<30)
			switch {
			case !bytes.HasPrefix(want, b):
				t.Fatalf("%s bit %d was handed out, error %v", path, bit, err)
			case err == nil && len(b) == len(want):
				outside++ // no record that is in the log
			case !errors.Is(err, ErrCorrupt):
				t.Fatalf("%s bit %d: %d of %d bytes, %v", path, bit, len(b), len(want), err)
			default:
				found++
			}
			w.must(w.SetBytes(path, content))
		}
	}
	t.Logf("%d found, %d in nothing that is read", found, outside)
	if found < outside {
		t.Fatal("most of the bits are those of entries")
	}
	w.expect(s, w.image)
}

// sectorDamage is what may become of a sector; nil says that it cannot.
var sectorDamage = map[string]func(w *worn, path string, at int) []byte{
	"zeroed": func(*worn, string, int) []byte { return make([]byte, sectorSize) },
	"garbage": func(_ *worn, _ string, at int) []byte {
		b, rng := make([]byte, sectorSize), seeded(uint64(at))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	},
	"the one before": func(w *worn, path string, at int) []byte { return w.sector(w.files[path], at-sectorSize) },
	"the one behind": func(w *worn, path string, at int) []byte { return w.sector(w.files[path], at+sectorSize) },
	"another": func(w *worn, path string, at int) []byte {
		return w.sector(w.files[path], (at*7+3*sectorSize)%len(w.files[path]))
	},
	"a lost write": func(w *worn, path string, at int) []byte { return w.sector(w.previous[path], at) },
}

func (w *worn) sector(file []byte, at int) []byte {
	if at < 0 || at+sectorSize > len(file) {
		return nil
	}
	return file[at : at+sectorSize]
}

// TestFault105_DamagedSectors: each sector in turn is not what was written last.
func TestFault105_DamagedSectors(t *testing.T) {
	w := newWorn(t)
	for name, damage := range sectorDamage {
		count := map[string]int{}
		for path, content := range w.files {
			for at := 0; at < len(content); at += sectorSize {
				bad := damage(w, path, at)
				if bad == nil || bytes.Equal(bad, content[at:at+sectorSize]) {
					continue
				}
				got := w.found(fmt.Sprintf("%s: %s at %d", name, path, at),
					map[string][]byte{path: slices.Concat(content[:at], bad, content[at+sectorSize:])})
				switch {
				case copies(path) && got == repaired, !copies(path) && got == refused:
				case path == w.last && int64(at) >= sealOf(content) && (got == cutOff || allZero(bad) && got == unseen):
					// The seal alone is lost: nothing was in it but itself.
				default:
					t.Fatalf("%s: %s at %d: %s", name, path, at, got)
				}
				count[got]++
			}
		}
		t.Logf("%s: %v", name, count)
	}
}
