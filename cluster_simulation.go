//go:build simulation

package raft

import "github.com/goraft/raft/internal/vfs"

// Disk returns the disk of the server of that name, which a simulation fills,
// stalls and damages. After a crash, a wipe and SetDisk it is another one.
func (c *Cluster) Disk(name string) *vfs.Mem {
	if n := c.node(name); n != nil {
		return n.disk.Load()
	}
	return nil
}

// SetDisk gives a server that is not started another disk, such as an older copy
// of its own.
func (c *Cluster) SetDisk(name string, disk *vfs.Mem) {
	if n := c.node(name); n != nil && n.life.Load() == nil {
		n.disk.Store(disk)
	}
}

// CrashKeeping is Crash with what is left of the writes that were not durable:
// vfs.Everything, as when only the process dies, vfs.Nothing, or any choice.
func (c *Cluster) CrashKeeping(name string, choose vfs.Chooser) {
	if n := c.node(name); n != nil {
		c.crash(n, choose)
	}
}
