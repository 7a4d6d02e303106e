package vfs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// pendingDisk has a synced file of two sectors, and behind that, oldest first: a
// write of the three sectors of another size, a new file, a rename.
func pendingDisk(t *testing.T) *Mem {
	m := NewMem()
	f := create(t, m, "f", strings.Repeat("o", 2*SectorSize))
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	_, err := f.WriteAt(bytes.Repeat([]byte{'n'}, 3*SectorSize), 0)
	must(t, err)
	create(t, m, "g", "")
	must(t, m.Rename("g", "h"))
	return m
}

// shape is a disk in short: names, with the first and the last byte of each sector.
func shape(t *testing.T, m *Mem) string {
	var parts []string
	for _, name := range names(t, m, ".") {
		b, err := m.Bytes(name)
		must(t, err)
		part := name + "="
		for sector := range slices.Chunk(b, SectorSize) {
			part += string(sector[0])
			if last := sector[len(sector)-1]; last != sector[0] {
				part += "/" + string(last)
			}
		}
		parts = append(parts, strings.ReplaceAll(part, "\x00", "0"))
	}
	return strings.Join(parts, " ")
}

func TestPendingIsInTheOrderOfTheCalls(t *testing.T) {
	m := pendingDisk(t)
	want := []string{"truncate f to 1536", "write f at 0, 512 bytes", "write f at 512, 512 bytes", "write f at 1024, 512 bytes",
		"create g", "rename g to h"}
	for i, p := range m.Pending() {
		if i != p.Index || i >= len(want) || p.String() != want[i] {
			t.Errorf("%d: %v", i, p.Op)
		}
	}
	if n := len(m.Crash(Everything).Pending()); n != 0 {
		t.Errorf("%d changes are pending after a crash", n)
	}
}

// What is written again as it was cannot be lost.
func TestPendingLeavesOutWhatChangesNothing(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f", strings.Repeat("o", 4*SectorSize))
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	_, err := f.WriteAt(bytes.Repeat([]byte{'o'}, 3*SectorSize), 0)
	must(t, err)
	if p := m.Pending(); len(p) != 0 {
		t.Fatal(p)
	}
	for _, c := range []byte("xxo") {
		_, err = f.WriteAt(bytes.Repeat([]byte{c}, SectorSize), SectorSize)
		must(t, err)
	}
	if p := m.Pending(); len(p) != 2 || p[0].Offset != SectorSize || p[1].Offset != SectorSize {
		t.Fatal(p)
	}
}

func TestStatesAreOfEveryFamily(t *testing.T) {
	m := pendingDisk(t)
	seen := make(map[string]string)
	for name, left := range m.States(Depth{Random: 8, Tears: 2}, rand.New(rand.NewPCG(1, 1))) {
		seen[name] = shape(t, left)
	}
	want := map[string]string{
		"the first 0 of 6":                       "f=oo",
		"the first 1 of 6":                       "f=oo0",
		"the first 2 of 6":                       "f=no0",
		"the first 4 of 6":                       "f=nnn",
		"the first 5 of 6":                       "f=nnn g=",
		"the first 6 of 6":                       "f=nnn h=",
		"all but 0 (truncate f to 1536)":         "f=nn h=",
		"all but 2 (write f at 512, 512 bytes)":  "f=non h=",
		"all but 4 (create g)":                   "f=nnn h=",
		"all but 3 (write f at 1024, 512 bytes)": "f=nn0 h=",
		"the first 3 of 6":                       "f=nn0",
		"all but 1 (write f at 0, 512 bytes)":    "f=onn h=",
	}
	torn, known := 0, 0
	for name, found := range seen {
		if strings.Contains(name, "bytes of write") || strings.HasSuffix(name, " bytes") {
			torn++
			if strings.HasPrefix(name, "the first 2 of") && found != "f=nn/o0" {
				t.Errorf("%s: %q", name, found)
			}
		} else if shape, ok := want[name]; ok {
			if known++; shape != found {
				t.Errorf("%s: %q, want %q", name, found, shape)
			}
		}
	}
	// Seven prefixes, five omissions, eight subsets, tears of each of the sectors, and of
	// one in each of the subsets that has one.
	if torn < 8 || known != len(want) || len(seen)-torn != 7+5+8 {
		t.Errorf("%d states, %d torn, %d known", len(seen), torn, known)
	}
}

// Of few changes there is no need to draw: every subset is built, once.
func TestStatesAreExhaustiveWhereTheyCanBe(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f", strings.Repeat("o", 6*SectorSize))
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	_, err := f.WriteAt(bytes.Repeat([]byte{'n'}, 6*SectorSize), 0)
	must(t, err)
	seen, n := make(map[uint64]bool), 0
	for _, left := range m.States(Depth{Random: 64}, nil) {
		seen[left.Digest()] = true
		n++
	}
	if len(seen) != 64 || n != 64 {
		t.Errorf("%d states, %d different", n, len(seen))
	}
}

// States is of the moment of the call; a state shares nothing with the disk.
func TestStatesAreOfOneMoment(t *testing.T) {
	m := pendingDisk(t)
	states := m.States(Depth{}, nil)
	f, err := m.OpenFile("f", 2, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("later"), 0)
	must(t, err)
	must(t, f.Sync())
	n := 0
	for name, left := range states {
		if s := shape(t, left); strings.Contains(s, "l") {
			t.Errorf("%s: %q", name, s)
		}
		g, err := left.OpenFile("f", 2, 0)
		must(t, err)
		_, err = g.WriteAt([]byte("other"), 0)
		must(t, err)
		must(t, g.Sync())
		n++
	}
	if s := shape(t, m); n != 12 || s != "f=l/nnn h=" {
		t.Errorf("after %d states: %q", n, s)
	}
}

func TestDigestTellsDisksApart(t *testing.T) {
	seen := make(map[uint64]string)
	for i, change := range []func(m *Mem){
		func(*Mem) {},
		func(m *Mem) { must(t, m.FlipBit("f", 0)) },
		func(m *Mem) { must(t, m.Rename("f", "g")) },
		func(m *Mem) { must(t, m.SetBytes("f", make([]byte, 3*SectorSize+1))) },
		func(m *Mem) { must(t, m.Mkdir("d", DirPerm)) },
	} {
		m := pendingDisk(t)
		change(m)
		d, again := m.Digest(), m.CrashClone(Everything).Digest()
		if seen[d] != "" || d != again {
			t.Errorf("%d: as %s, and again %t", i, seen[d], d == again)
		}
		seen[d] = fmt.Sprint(i)
	}
}
