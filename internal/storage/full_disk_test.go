//go:build linux

package storage

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/snapshot"
	"github.com/goraft/raft/internal/vfs"
	"github.com/goraft/raft/internal/wal"
)

// smallDisk mounts an ext4 file system of 16 MiB, or skips the test where that is
// not allowed.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	f, err := os.Create(image)
	must(t, err)
	must(t, errors.Join(f.Truncate(16<<20), f.Close()))
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("no mkfs.ext4 here: Debian's e2fsprogs has it")
	}
	// No blocks are set aside for root: zero bytes free shall mean that.
	if out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("root may not mount here, as in a container: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// fillUp takes all the space that is left, to the last byte that a file can have.
func fillUp(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err == nil {
			continue
		} else if !vfs.IsNoSpace(err) {
			t.Fatal(err)
		}
		size /= 2
	}
	if err := f.Sync(); err != nil && !vfs.IsNoSpace(err) {
		t.Fatal(err)
	}
	must(t, f.Close())
	var left syscall.Statfs_t
	must(t, syscall.Statfs(filepath.Dir(name), &left))
	if left.Bavail != 0 {
		t.Fatalf("%d blocks are still free", left.Bavail)
	}
}

// fullDisk is a store, snapshots and a world on a disk that something else fills.
type fullDisk struct {
	*testing.T
	dir    string
	filler string
	store  *wal.Store
	files  *snapshot.Store
	world  world
	term   uint64
}

func (d *fullDisk) open() {
	var err error
	d.store, d.files, err = openDirectory(d.dir, wal.Options{})
	must(d, err)
	d.agree()
}

func (d *fullDisk) agree() {
	d.Helper()
	if diff := d.world.differs(d.store, d.files, true); diff != "" {
		d.Fatal(diff)
	}
}

// do does a call, which must succeed.
func (d *fullDisk) do(c call) {
	d.Helper()
	must(d, c.do(d.store, d.files))
	first, _ := d.store.Bounds()
	c.happen(&d.world, first)
}

// refused does a call, which must find the disk full and change nothing.
func (d *fullDisk) refused(c call, want error) {
	d.Helper()
	if err := c.do(d.store, d.files); !errors.Is(err, want) || errors.Is(err, wal.ErrFailed) {
		d.Fatalf("%v on a full disk: %v", c, err)
	}
	d.agree()
}

func (d *fullDisk) next() call {
	d.term++
	return call{verb: "append", index: d.world.last() + 1, term: d.term, count: 3}
}

// appendUntilFull appends until there is no space, and returns what did not fit.
func (d *fullDisk) appendUntilFull() (c call, written int) {
	d.Helper()
	for {
		c = d.next()
		if err := c.do(d.store, d.files); errors.Is(err, wal.ErrNoSpace) && !errors.Is(err, wal.ErrFailed) {
			d.agree()
			return c, written
		} else if err != nil {
			d.Fatal(err)
		}
		c.happen(&d.world, d.world.first)
		written++
	}
}

// A disk without a byte to spare refuses entries and snapshots, opens, saves the hard
// state, and serves again when there is space, all without being opened anew.
func TestFault099_RealDiskWithoutAByteFree(t *testing.T) {
	mounted := smallDisk(t)
	d := &fullDisk{T: t, dir: filepath.Join(mounted, "raft"), filler: filepath.Join(mounted, "filler")}
	d.world = world{first: 1, snapshots: map[snapshot.Label][]byte{}}
	d.open()
	t.Cleanup(func() { _ = d.store.Close() })
	for range 100 {
		d.do(d.next())
	}
	d.do(call{verb: "take", index: 50, term: d.world.term(50), commit: 50})
	for round := range 3 {
		fillUp(t, d.filler)
		unfit, written := d.appendUntilFull()
		d.do(call{verb: "vote", term: d.term, count: 2})
		label := call{index: 100, term: d.world.term(100), commit: 100}
		for _, verb := range []string{"take", "receive"} {
			label.verb = verb
			d.refused(label, snapshot.ErrNoSpace)
		}
		if left := temporaries(t, vfs.OS(), filepath.Join(d.dir, "snapshot")); len(left) > 0 {
			t.Fatal("left over: ", left)
		}
		d.refused(unfit, wal.ErrNoSpace)
		if round < 2 {
			// Without the seal that Close writes, if it can: as after a crash.
			must(t, d.store.Close())
			d.open()
			if torn := d.store.Torn(); torn != nil {
				t.Fatalf("torn: %+v", torn)
			}
			d.appendUntilFull()
			d.do(call{verb: "vote", term: d.term, count: 3})
		}
		must(t, os.Remove(d.filler))
		for range 100 {
			d.do(d.next())
		}
		t.Logf("round %d: %d appends fitted into what the log had, then 100 more", round, written)
	}
	d.do(call{verb: "take", index: 100, term: d.world.term(100), commit: 100})
	d.do(call{verb: "compact", index: 51})
	must(t, d.store.Close())
	d.open()
	must(t, d.store.Close())
}
