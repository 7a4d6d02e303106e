package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestBrokenSectors(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f", string(bytes.Repeat([]byte{'o'}, 4*SectorSize)))
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	must(t, m.BreakSectors("f", 1, 2))
	m = m.Crash(Nothing)
	f, err := m.OpenFile("f", os.O_RDWR, 0)
	must(t, err)
	b := make([]byte, 4*SectorSize)
	if n, err := f.ReadAt(b, 10); n != SectorSize-10 || !errors.Is(err, syscall.EIO) {
		t.Error(n, err)
	}
	if n, err := f.ReadAt(b[:10], 3*SectorSize-1); n != 0 || !errors.Is(err, syscall.EIO) {
		t.Error(n, err)
	}
	_, err = f.ReadAt(b[:SectorSize], 3*SectorSize)
	must(t, err)
	if _, err := f.WriteAt(b[:SectorSize], SectorSize+1); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	_, err = f.WriteAt(b[:2*SectorSize], SectorSize)
	must(t, err)
	_, err = f.ReadAt(b, 0)
	must(t, err)
	if err := m.BreakSectors("g", 0, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// lying returns a disk with two files of two synced sectors, f of which was then
// overwritten, and synced, under a fault.
func lying(t *testing.T, fault error) *Mem {
	m := NewMem()
	m.RecordHistory()
	f := create(t, m, "f", string(bytes.Repeat([]byte{'f'}, 2*SectorSize)))
	g := create(t, m, "g", string(bytes.Repeat([]byte{'g'}, 2*SectorSize)))
	must(t, f.Sync())
	must(t, g.Sync())
	must(t, m.SyncDir("."))
	m.SetFault(func(op Op) error {
		if op.Kind == OpWrite {
			return fault
		}
		return nil
	})
	n, err := f.WriteAt(bytes.Repeat([]byte{'n'}, SectorSize), SectorSize)
	if n != SectorSize {
		t.Fatal(n)
	}
	must(t, err)
	must(t, f.Sync())
	if got := shape(t, m); got != "f=fn g=gg" {
		t.Errorf("readers see %q", got)
	}
	return m
}

func TestLostAndMisdirectedWrites(t *testing.T) {
	for _, c := range []struct {
		fault error
		want  string
	}{
		{nil, "f=fn g=gg"},
		{ErrLostWrite, "f=ff g=gg"},
		{&Misdirected{"g", 0}, "f=ff g=ng"},
		{&Misdirected{"f", 0}, "f=nf g=gg"},
		{&Misdirected{"g", 7 * SectorSize}, "f=ff g=gg"},
		{&Misdirected{"gone", 0}, "f=ff g=gg"},
	} {
		m := lying(t, c.fault)
		if len(m.Pending()) != 0 {
			t.Error(m.Pending())
		}
		if got := shape(t, m.Crash(Everything)); got != c.want {
			t.Errorf("%v: %q, want %q", c.fault, got, c.want)
		}
	}
}

func TestStaleSectors(t *testing.T) {
	m := lying(t, nil)
	must(t, m.Rename("f", "h"))
	m = m.Crash(Everything)
	old, err := m.Versions("h", 1)
	must(t, err)
	if len(old) != 2 || old[0][0] != 'f' || old[1][0] != 'n' {
		t.Fatal(len(old))
	}
	must(t, m.SetSector("h", 1, old[0]))
	if got := shape(t, m); got != "g=gg h=ff" {
		t.Error(got)
	}
	if m.SetSector("h", 2, old[0]) == nil || m.SetSector("h", 0, old[0][:7]) == nil {
		t.Error("there is no such sector")
	}
}
