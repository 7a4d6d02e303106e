//go:build simulation

package simulation

import (
	"slices"
	"syscall"

	"github.com/goraft/raft/internal/vfs"
)

// disks are the actions on disks.
func disks() []action {
	broken := func(kind func(vfs.OpKind) bool, err func(n *nemesis) error) func(n *nemesis) func() {
		return func(n *nemesis) func() { return breakDisk(n, kind, err(n)) }
	}
	fails := func(n *nemesis) error { return errDisk }
	return []action{
		{"disk stalls", "", func(n *nemesis) func() {
			open := shut(&n.some().stall)
			if open == nil {
				return nil
			}
			return open
		}},
		{"disk is slow", "", func(n *nemesis) func() {
			node := n.some()
			node.syncTime.Store(int64(n.rand.ExpFloat64() * float64(n.world.plan.election) / 10))
			return func() { node.syncTime.Store(0) }
		}},
		{"disk is full", "", func(n *nemesis) func() { return n.fill(n.some()) }},
		{"all disks are full", "", func(n *nemesis) func() {
			var ends []func()
			for _, node := range n.world.allNodes() {
				ends = append(ends, n.fill(node))
			}
			return func() {
				for _, end := range ends {
					end()
				}
			}
		}},
		{"sync fails", "", broken(isSync, fails)},
		{"write fails", "", broken(isWrite, fails)},
		{"read fails", "", broken(isRead, fails)},
		{"short write", "", broken(isWrite, func(n *nemesis) error { return shortWrites(n.rand.IntN(4096)) })},
		{"full for a moment", "", func(n *nemesis) func() {
			node := n.some()
			node.broken.Store(&brokenCall{isWrite, &vfs.ShortWrite{N: n.rand.IntN(1024), Err: syscall.ENOSPC}})
			return func() { node.broken.Store(nil) }
		}},
		{"rot", "members", rot},
		{"misdirected write", "members", misdirect},
		{"lost write", "members", func(n *nemesis) func() { return n.lies(func(node *node) error { return vfs.ErrLostWrite }) }},
		{"old disk", "members", oldDisk},
	}
}

// fill leaves a disk no space, or little.
func (n *nemesis) fill(node *node) (end func()) {
	disk := n.world.cluster.Disk(node.name)
	left := disk.Used() % 3 * 8 << 10
	disk.SetQuota(&vfs.Quota{Bytes: disk.Used() + left, Entries: left == 0})
	return func() { n.world.cluster.Disk(node.name).SetQuota(nil) }
}

// breakDisk fails a disk's next call of a kind, which may end the server; then it
// crashes.
func breakDisk(n *nemesis, kind func(vfs.OpKind) bool, err error) func() {
	node := n.take()
	if node == nil {
		return nil
	}
	node.mayFail.Store(true)
	node.broken.Store(&brokenCall{kind, err})
	chance := n.rand // when this ends, n has another action's
	return func() {
		n.fell(node, vfs.Random(chance))
		n.rise(node)
	}
}

// rot stops a server, inverts a bit of a file of its, and starts it. It must take
// notice of what matters: then its disk is given up, and it joins again.
func rot(n *nemesis) func() {
	node := n.takeSound(3)
	if node == nil {
		return nil
	}
	w := n.world
	n.halt(node)
	disk := w.cluster.Disk(node.name)
	files := slices.DeleteFunc(w.paths(node.name), func(path string) bool {
		info, err := disk.Stat(path)
		return err != nil || info.Size() == 0
	})
	path := files[n.rand.IntN(len(files))]
	info, err := disk.Stat(path)
	if err == nil {
		bit := n.rand.Int64N(info.Size() * 8)
		err = disk.FlipBit(path, bit)
		w.trace.printf("%s: bit %d of %s rots: %v", node.name, bit, path, err)
	}
	return func() { n.doubt(node) }
}

// lies has a disk lie about one write, and crashes the server behind it. What the
// server has promised since may be gone, and its votes are not heard until it has
// it again.
func (n *nemesis) lies(lie func(*node) error) func() {
	node := n.takeSound(3)
	if node == nil {
		return nil
	}
	node.mayFail.Store(true)
	node.broken.Store(&brokenCall{isWrite, lie(node)})
	return func() {
		n.fell(node, vfs.Everything)
		n.doubt(node)
	}
}

// misdirect has a write of a disk land elsewhere in the same file.
func misdirect(n *nemesis) func() {
	offset := int64(n.rand.IntN(64)) * vfs.SectorSize
	return n.lies(func(node *node) error {
		paths := n.world.paths(node.name)
		return &vfs.Misdirected{To: paths[n.rand.IntN(len(paths))], Offset: offset}
	})
}

// oldDisk puts a server's disk back to what it was a while ago.
func oldDisk(n *nemesis) func() {
	node := n.takeSound(3)
	if node == nil {
		return nil
	}
	w := n.world
	old := w.cluster.Disk(node.name).CrashClone(vfs.Everything)
	return func() {
		n.fell(node, vfs.Everything)
		w.cluster.SetDisk(node.name, old)
		w.trace.printf("%s's disk is put back", node.name)
		n.doubt(node)
	}
}
