package vfs

import (
	"bytes"
	"os"
	"testing"
)

func quotaDisk(q Quota) *Mem {
	m := NewMem()
	m.SetQuota(&q)
	return m
}

func used(t *testing.T, m *Mem, sectors int64) {
	t.Helper()
	if got := m.Used(); got != sectors*SectorSize {
		t.Errorf("%d sectors are taken, want %d", got/SectorSize, sectors)
	}
}

func TestQuotaIsShortFirst(t *testing.T) {
	m := quotaDisk(Quota{Bytes: 4*SectorSize + 100})
	f := create(t, m, "f", "a")
	n, err := f.WriteAt(make([]byte, 5*SectorSize), 100)
	if n != 4*SectorSize-100 || !IsNoSpace(err) {
		t.Fatal(n, err)
	}
	used(t, m, 4)
	n, err = f.WriteAt([]byte("b"), 4*SectorSize)
	if n != 0 || !IsNoSpace(err) {
		t.Fatal(n, err)
	}
	// What was written is overwritten for nothing.
	_, err = f.WriteAt(bytes.Repeat([]byte{'c'}, 4*SectorSize), 0)
	must(t, err)
	if size, _ := f.Size(); size != 4*SectorSize {
		t.Fatal(size)
	}
	m.SetQuota(nil)
	_, err = f.WriteAt([]byte("b"), 4*SectorSize)
	must(t, err)
}

func TestQuotaIsGivenBack(t *testing.T) {
	m := quotaDisk(Quota{Bytes: 100 * SectorSize})
	f := create(t, m, "f", "")
	_, err := f.WriteAt([]byte("a hole before"), 7*SectorSize)
	must(t, err)
	used(t, m, 1)
	_, err = f.WriteAt(make([]byte, 2*SectorSize), 0)
	must(t, err)
	used(t, m, 3)
	must(t, f.Truncate(SectorSize+1))
	used(t, m, 2)
	must(t, m.Mkdir("d", DirPerm))
	used(t, m, 3)
	must(t, m.Remove("f"))
	used(t, m, 3) // it is open
	must(t, f.Close())
	used(t, m, 1)
	g := create(t, m, "g", "x")
	h := create(t, m, "h", "y")
	must(t, h.Close())
	must(t, m.Rename("g", "h"))
	used(t, m, 2)
	must(t, g.Sync())
	must(t, m.SyncDir("."))
	left := m.Crash(Nothing)
	used(t, left, 2)
	if f, err := left.OpenFile("h", os.O_RDWR, 0); err != nil {
		t.Error(err)
	} else if n, err := f.WriteAt(make([]byte, 200*SectorSize), 0); n != 99*SectorSize || !IsNoSpace(err) {
		t.Error("the quota is gone after a crash: ", n, err)
	}
}

// With no byte free a directory cannot be made, and a name only where the
// directory has room; removing, and a rename in place of another, always work.
func TestQuotaOfEntries(t *testing.T) {
	for _, entries := range []bool{false, true} {
		m := quotaDisk(Quota{Bytes: SectorSize, Entries: entries})
		f := create(t, m, "f", "full")
		if err := m.Mkdir("d", DirPerm); !IsNoSpace(err) {
			t.Error(err)
		}
		_, created := m.OpenFile("g", os.O_CREATE|os.O_RDWR, FilePerm)
		_, locked := m.Lock("lock")
		for _, err := range []error{created, locked, m.Rename("f", "h")} {
			if IsNoSpace(err) != entries || !entries && err != nil {
				t.Errorf("entries need space is %t: %v", entries, err)
			}
		}
		must(t, f.Close())
		for _, name := range names(t, m, ".") {
			must(t, m.Remove(name))
		}
		must(t, m.Mkdir("d", DirPerm))
	}
	m := quotaDisk(Quota{Bytes: SectorSize, Entries: true})
	must(t, create(t, m, "f", "full").Close())
	m.SetQuota(nil)
	must(t, create(t, m, "g", "").Close())
	m.SetQuota(&Quota{Entries: true})
	must(t, m.Rename("g", "f"))
	used(t, m, 0)
}

func TestQuotaOfADiskThatCopies(t *testing.T) {
	m := quotaDisk(Quota{Bytes: 3 * SectorSize, CopyOnWrite: true})
	f := create(t, m, "f", string(make([]byte, 2*SectorSize)))
	n, err := f.WriteAt(bytes.Repeat([]byte{'n'}, 2*SectorSize), 0)
	if n != SectorSize || !IsNoSpace(err) {
		t.Error(n, err)
	}
	must(t, f.Truncate(SectorSize))
	_, err = f.WriteAt(bytes.Repeat([]byte{'n'}, SectorSize), 0)
	must(t, err)
}
