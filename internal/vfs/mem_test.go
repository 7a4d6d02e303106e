package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, fsys FS, name, content string) File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, FilePerm)
	must(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(t, err)
	return f
}

func names(t testing.TB, fsys FS, dir string) []string {
	t.Helper()
	n, err := fsys.ReadDir(dir)
	must(t, err)
	return n
}

// What was not synced is old or new, sector by sector, and so is the size.
func TestCrashTakesWhatWasNotSynced(t *testing.T) {
	old, newer := bytes.Repeat([]byte{'o'}, 4*SectorSize), bytes.Repeat([]byte{'n'}, 6*SectorSize)
	seen := map[string]bool{}
	for seed := range uint64(300) {
		m := NewMem()
		f := create(t, m, "f", string(old))
		must(t, f.Sync())
		must(t, m.SyncDir("/"))
		_, err := f.WriteAt(newer, 0)
		must(t, err)
		m = m.Crash(Random(rand.New(rand.NewPCG(seed, 0))))
		b, err := m.Bytes("f")
		must(t, err)
		shape := ""
		for sector := range slices.Chunk(b, SectorSize) {
			c := sector[0]
			if !bytes.Equal(sector, bytes.Repeat([]byte{c}, SectorSize)) {
				t.Fatal("a sector was torn")
			}
			shape += string(rune(c))
		}
		seen[shape] = true
	}
	for _, shape := range []string{"oooo", "nnnn", "nnnnnn", "oooo\x00\x00"} {
		if !seen[shape] {
			t.Errorf("never saw %q among %d", shape, len(seen))
		}
	}
	if len(seen) < 50 {
		t.Errorf("only %d states", len(seen))
	}
}

func TestNothingAndEverything(t *testing.T) {
	m := NewMem()
	must(t, m.Mkdir("dir", DirPerm))
	must(t, m.SyncDir("."))
	f := create(t, m, "dir/f", "synced")
	must(t, f.Sync())
	must(t, m.SyncDir("dir"))
	_, err := f.WriteAt([]byte("changed and longer"), 0)
	must(t, err)
	create(t, m, "dir/g", "")
	must(t, m.Rename("dir/f", "dir/h"))
	for _, c := range []struct {
		choose Chooser
		names  []string
		file   string
		want   string
	}{
		{Nothing, []string{"f"}, "dir/f", "synced"},
		{Everything, []string{"g", "h"}, "dir/h", "changed and longer"},
	} {
		left := m.CrashClone(c.choose)
		if got := names(t, left, "dir"); !slices.Equal(got, c.names) {
			t.Errorf("%q, want %q", got, c.names)
		}
		if b, err := left.Bytes(c.file); err != nil || string(b) != c.want {
			t.Errorf("%q, %v", b, err)
		}
	}
	m.Crash(Nothing)
	_, read := f.ReadAt(make([]byte, 1), 0)
	for _, err := range []error{read, f.Sync(), f.Close(), m.SyncDir("dir")} {
		if !errors.Is(err, ErrCrashed) {
			t.Error(err)
		}
	}
}

// A rename is kept or dropped as a whole, with the entry it replaces.
func TestRenameIsAtomic(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(100) {
		m := NewMem()
		must(t, WriteFile(m, "f", []byte("old")))
		f := create(t, m, "f.tmp", "new")
		must(t, f.Sync())
		must(t, m.Rename("f.tmp", "f"))
		m = m.Crash(Random(rand.New(rand.NewPCG(seed, 0))))
		b, err := m.Bytes("f")
		must(t, err)
		seen[string(b)] = true
	}
	if len(seen) != 2 || !seen["old"] || !seen["new"] {
		t.Fatal(seen)
	}
}

// After a failed Sync readers see what the disk will never have, though the next
// Sync succeeds.
func TestFailedSyncForgetsWhatItShouldHaveWritten(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f", "old")
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	_, err := f.WriteAt([]byte("new"), 0)
	must(t, err)
	m.SetFault(func(op Op) error {
		if op.Kind == OpSync {
			return syscall.EIO
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	m.SetFault(nil)
	must(t, f.Sync())
	if b, _ := m.Bytes("f"); string(b) != "new" {
		t.Fatalf("readers see %q", b)
	}
	if b, _ := m.CrashClone(Nothing).Bytes("f"); string(b) != "old" {
		t.Fatalf("the disk has %q", b)
	}
}

func TestFaults(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f", "")
	m.SetFault(func(op Op) error {
		if op.Kind == OpWrite && op.Offset == 10 && op.Length == 8 && op.Name == "f" {
			return &ShortWrite{N: 3, Err: syscall.ENOSPC}
		}
		return nil
	})
	n, err := f.WriteAt([]byte("12345678"), 10)
	if n != 3 || !IsNoSpace(err) {
		t.Fatal(n, err)
	}
	if b, _ := m.Bytes("f"); string(b) != "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00123" {
		t.Fatalf("%q", b)
	}
	must(t, m.FlipBit("f", 80))
	if b, _ := m.CrashClone(Everything).Bytes("f"); b[10] != '0' {
		t.Fatalf("%q", b)
	}
	if m.FlipBit("f", 8*13) == nil || m.FlipBit("g", 0) == nil {
		t.Fatal("flipped a bit that is not there")
	}
}

// A stalled call holds up no other, and a crash ends it.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMem()
		f := create(t, m, "f", "data")
		release := make(chan struct{})
		m.SetFault(func(op Op) error {
			if op.Kind == OpSync {
				<-release
			}
			return nil
		})
		ended := make(chan error)
		go func() { ended <- f.Sync() }()
		synctest.Wait()
		if _, err := f.ReadAt(make([]byte, 4), 0); err != nil {
			t.Error(err)
		}
		m.Crash(Nothing)
		close(release)
		if err := <-ended; !errors.Is(err, ErrCrashed) {
			t.Error(err)
		}
	})
}

// The two file systems agree on what both can do.
func TestBothFileSystems(t *testing.T) {
	for name, fsys := range map[string]FS{"mem": NewMem(), "os": OS()} {
		t.Run(name, func(t *testing.T) {
			root := "root"
			if name == "os" {
				root = t.TempDir()
			}
			dir := root + "/a/b"
			must(t, MkdirAll(fsys, dir))
			must(t, MkdirAll(fsys, dir))
			f, err := CreateFresh(fsys, dir+"/f")
			must(t, err)
			_, err = f.WriteAt([]byte("hello"), 3)
			must(t, err)
			must(t, f.Truncate(20))
			must(t, f.Truncate(10))
			must(t, f.Sync())
			b := make([]byte, 20)
			n, err := f.ReadAt(b, 0)
			if n != 10 || err != io.EOF || string(b[:n]) != "\x00\x00\x00hello\x00\x00" {
				t.Fatalf("%d %v %q", n, err, b)
			}
			if size, err := f.Size(); size != 10 || err != nil {
				t.Fatal(size, err)
			}
			must(t, f.Close())
			if f.Close() == nil {
				t.Error("closed twice")
			}
			if _, err := fsys.OpenFile(dir+"/f", os.O_CREATE|os.O_EXCL|os.O_RDWR, FilePerm); !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
			if _, err := fsys.OpenFile(dir+"/g", os.O_RDWR, 0); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			must(t, WriteFile(fsys, dir+"/f", []byte("x")))
			must(t, fsys.Rename(dir+"/f", dir+"/g"))
			must(t, fsys.SyncDir(dir))
			if got := names(t, fsys, dir); !slices.Equal(got, []string{"g"}) {
				t.Error(got)
			}
			if info, err := fsys.Stat(dir + "/g"); err != nil || info.Size() != 1 || info.IsDir() || info.Mode().Perm() != FilePerm {
				t.Error(info, err)
			}
			if info, err := fsys.Stat(dir); err != nil || !info.IsDir() || info.Mode().Perm() != DirPerm {
				t.Error(info, err)
			}
			if fsys.Remove(dir) == nil {
				t.Error("removed a directory that is not empty")
			}
			if err := MkdirAll(fsys, dir+"/g"); err == nil {
				t.Error("a file is no directory")
			}
			l, err := fsys.Lock(dir + "/lock")
			must(t, err)
			if _, err := fsys.Lock(dir + "/lock"); !errors.Is(err, ErrLocked) {
				t.Error(err)
			}
			must(t, l.Close())
			l, err = fsys.Lock(dir + "/lock")
			must(t, err)
			must(t, l.Close())
			must(t, fsys.Remove(dir+"/g"))
			if err := fsys.Remove(dir + "/g"); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

// Directories that MkdirAll made are there after any crash behind it, also when an
// earlier attempt was cut short.
func TestMkdirAllIsDurable(t *testing.T) {
	for calls := range 12 {
		m := NewMem()
		n := 0
		m.SetFault(func(Op) error {
			if n++; n > calls {
				return ErrCrashed
			}
			return nil
		})
		_ = MkdirAll(m, "a/b/c")
		m.SetFault(nil)
		must(t, MkdirAll(m, "a/b/c"))
		if _, err := m.Crash(Nothing).Stat("a/b/c"); err != nil {
			t.Fatalf("%d calls before: %v", calls, err)
		}
	}
}
