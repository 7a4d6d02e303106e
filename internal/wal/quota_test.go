package wal

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// TestFault099_FullAtEverySector runs every path on disks that have room for no
// sector, for one, and so on, until it succeeds: what does not fit is refused as a
// whole, a restart with the full disk finds what was there, and when there is space
// the same call succeeds.
func TestFault099_FullAtEverySector(t *testing.T) {
	kinds := []struct {
		name string
		vfs.Quota
	}{
		{"overwriting is free", vfs.Quota{}},
		{"names take space", vfs.Quota{Entries: true}},
		{"overwriting is copied", vfs.Quota{Entries: true, CopyOnWrite: true}},
	}
	sample := oneOf(3, 1, 1)
	for i, path := range paths {
		for j, kind := range kinds {
			if (i+j)%sample != 0 {
				continue
			}
			t.Run(path.name+", "+kind.name, func(t *testing.T) {
				t.Parallel()
				tried := 0
				for variant := range volume(1, 4, 40) {
					for free, full := int64(0), true; full; free++ {
						run := path.begin(t, variant)
						tried++
						full = run.full(&path, kind.Quota, free)
					}
				}
				t.Logf("%d disks", tried)
			})
		}
	}
}

// full runs a path with so many sectors free, and reports whether they were too few.
func (p *pathRun) full(path *path, q vfs.Quota, free int64) bool {
	p.Helper()
	q.Bytes = p.Used() + free*vfs.SectorSize
	p.SetQuota(&q)
	err := path.act(p)
	where := fmt.Sprintf("%d sectors free, %v", free, err)
	if err != nil && (!errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed)) {
		p.Fatal(where)
	}
	for state, left := range p.States(vfs.Depth{Random: 4}, seeded(uint64(free))) {
		again := *p
		again.disk = &disk{p.TB, left, p.options}
		if q.CopyOnWrite || path.makesFiles() {
			if _, _, err := again.try(); err != nil && !errors.Is(err, ErrNoSpace) {
				p.Fatalf("%s: %s: opened on the full disk: %v", where, state, err)
			}
			again.disk.Mem = left.Crash(vfs.Everything)
			again.SetQuota(nil)
		}
		if wrong := path.oldOrNew(&again, err == nil); wrong != "" {
			p.Fatalf("%s: %s: %s", where, state, wrong)
		}
	}
	p.SetQuota(nil)
	if err == nil {
		return false
	}
	if !path.closes() {
		p.must(path.act(p))
		p.crash(vfs.Nothing)
		if wrong := path.oldOrNew(p, true); wrong != "" {
			p.Fatalf("%s: then there is space: %s", where, wrong)
		}
	}
	return true
}

// TestFault099_StartsOnAFullDisk kills the process at every call of every path, also
// while the disk is full, and others take what space there is: the store opens, shows
// what was there or what was written, and can be sealed.
func TestFault099_StartsOnAFullDisk(t *testing.T) {
	sample := oneOf(2, 1, 1)
	for i, path := range paths {
		if path.makesFiles() || i%sample != 0 && path.chunk == 0 {
			continue
		}
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			seen := make(map[[2]uint64]bool)
			for variant := range volume(1, 4, 40) {
				for free, full := int64(0), true; full; free++ {
					run := path.begin(t, variant)
					run.SetQuota(&vfs.Quota{Bytes: run.Used() + free*vfs.SectorSize})
					run.SetFault(func(op vfs.Op) error {
						if op.Kind.Changes() {
							run.killed(&path, fmt.Sprintf("%d sectors free, before %v", free, op), seen)
						}
						return nil
					})
					full = path.act(run) != nil
					run.SetFault(nil)
				}
			}
			t.Logf("%d disks", len(seen))
		})
	}
}

// killed opens what a killed process leaves, on a disk with no space at all.
func (p *pathRun) killed(path *path, where string, seen map[[2]uint64]bool) {
	left := p.CrashClone(vfs.Everything)
	key := [2]uint64{left.Digest(), uint64(left.Used())}
	if seen[key] {
		return
	}
	seen[key] = true
	left.SetQuota(&vfs.Quota{Bytes: left.Used()})
	again := *p
	again.disk = &disk{p.TB, left, p.options}
	s, _, err := again.try()
	if err != nil {
		p.Fatalf("%s: %v", where, err)
	}
	if _, wrong := path.finds(&again, s, false); wrong != "" {
		p.Fatalf("%s: %s", where, wrong)
	}
	rolls := s.writer.seg.header.clusterID != s.Identity().ClusterID // before anything is written
	if err := s.Close(); err != nil && !rolls {
		p.Fatalf("%s: closed again: %v", where, err)
	}
}

// Row 99: what a crash left of a large batch has holes, which take space. They need
// not be filled to cut it off.
func TestFault099_HolesOnAFullDisk(t *testing.T) {
	for seed := range uint64(volume(40, 400, 4000)) {
		rng := seeded(seed)
		d, want := newDisk(t, 64<<10), image{first: 1}
		d.options.chunk = 512
		s := d.open()
		b := records(0, 1, 1, 1, 100)
		want.put(1, b)
		d.must(s.Append(1, 0, b))
		f := s.writer.seg.file
		was, begins := s.writer.seg.allocated, s.writer.off
		d.SetFault(shortWrites("", 0, vfs.ErrCrashed))
		_ = s.Append(2, 0, records(0, 2, 1, 1, 9000))
		d.SetFault(nil)
		for at := was; at < was+9000; at += sectorSize {
			if rng.IntN(3) == 0 {
				_, err := f.WriteAt(bytes.Repeat([]byte{0xee}, sectorSize), at)
				d.must(err)
			}
		}
		if rng.IntN(2) == 0 {
			_, err := f.WriteAt([]byte("its first sector"), begins)
			d.must(err)
		}
		d.crash(vfs.Everything)
		d.SetQuota(&vfs.Quota{Bytes: d.Used()})
		s = d.open()
		d.expect(s, want)
		d.must(s.Close())
		d.expect(d.open(), want)
	}
}
