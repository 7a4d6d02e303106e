package wal

import (
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
	if path.name != "close" {
		p.must(path.act(p))
		p.crash(vfs.Nothing)
		if wrong := path.oldOrNew(p, true); wrong != "" {
			p.Fatalf("%s: then there is space: %s", where, wrong)
		}
	}
	return true
}
