package raft

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// inSaved runs f with a cluster of one that is stopped, whose log reaches from one
// snapshot over another one to entries behind it.
func inSaved(t *testing.T, compact bool, f func(c *clusterTest, disk *vfs.Mem, want []journalEntry)) {
	t.Helper()
	inCluster(t, 1, ClusterOptions{Options: []Option{WithMaxSegmentBytes(64 << 10)}}, func(c *clusterTest) {
		require.NoError(c.t, c.Bootstrap(c.ctx))
		s := c.Server("s1")
		n := 20
		if compact {
			n = 900 // so that the first segment of the log goes
		}
		c.puts("a", 1, n)
		require.NoError(c.t, s.TakeSnapshot())
		c.puts("b", 1, n)
		require.NoError(c.t, s.TakeSnapshot())
		c.puts("c", 1, 10)
		if compact {
			require.Greater(c.t, s.Status().FirstIndex, uint64(1))
		}
		want := c.journal("s1").entries()
		c.Stop("s1")
		f(c, c.node("s1").disk.Load(), want)
	})
}

// unstarted makes a server on a disk, without starting it.
func (c *clusterTest) unstarted(disk *vfs.Mem) (Server, *journal) {
	c.t.Helper()
	j := &journal{test: c, name: "s1"}
	server, err := NewServer("s1", "/s1", c.network.Transporter("s1"), j, j, "", withFileSystem(disk),
		WithRegistry(c.registry("s1")), WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(c.t, err)
	return server, j
}

func TestLoadSnapshotBeforeInit(t *testing.T) {
	inSaved(t, false, func(c *clusterTest, disk *vfs.Mem, want []journalEntry) {
		labels := c.snapshots("s1")
		server, j := c.unstarted(disk)
		require.True(t, server.IsLogEmpty())
		require.NoError(t, server.LoadSnapshot())
		require.Equal(t, want[:40], j.entries())
		require.Equal(t, 1, j.recovered)

		// What a program asks before Init.
		require.False(t, server.IsLogEmpty())
		require.Equal(t, labels[0].Index, server.CommitIndex())
		require.Equal(t, Stopped, server.State())
		require.Empty(t, server.Peers())
		require.Equal(t, 1, server.MemberCount())
		require.Equal(t, labels[0].Index, server.Status().LastApplied)
		require.Equal(t, StopError, server.TakeSnapshot())

		// Init does not do it again, and goes on behind it.
		require.NoError(t, server.Init())
		require.Equal(t, 1, j.recovered)
		require.Equal(t, want, j.entries())
		require.NoError(t, server.LoadSnapshot())
		require.NoError(t, server.Start())
		require.NoError(t, server.LoadSnapshot())
		require.Equal(t, 1, j.recovered)
		require.Equal(t, want, j.entries())
		server.Stop()

		// A later life begins with the snapshot again, whoever restores it.
		j.forget()
		require.NoError(t, server.Start())
		require.Equal(t, 2, j.recovered)
		require.Equal(t, want, j.entries())
		server.Stop()
		j.forget()
		require.NoError(t, server.LoadSnapshot())
		require.Equal(t, want[:40], j.entries())
		require.NoError(t, server.Start())
		require.Equal(t, 3, j.recovered)
		require.Equal(t, want, j.entries())
		server.Stop()
	})
}

func TestLoadSnapshotPassesOverWhatIsDamaged(t *testing.T) {
	inSaved(t, false, func(c *clusterTest, disk *vfs.Mem, want []journalEntry) {
		labels := c.snapshots("s1")
		b, err := disk.Bytes(snapshotName("s1", labels[0]))
		require.NoError(t, err)
		require.NoError(t, disk.SetBytes(snapshotName("s1", labels[0]), b[:len(b)-1]))
		server, j := c.unstarted(disk)
		require.NoError(t, server.LoadSnapshot())
		require.Equal(t, want[:20], j.entries())
		require.Equal(t, labels[1].Index, server.CommitIndex())
		require.NoError(t, server.Init())
		require.Equal(t, 1, j.recovered)
		require.Equal(t, want, j.entries())
		server.Stop()

		// With both damaged there is nothing to load, and the log tells everything.
		require.NoError(t, disk.SetBytes(snapshotName("s1", labels[1]), nil))
		server, j = c.unstarted(disk)
		require.NoError(t, server.LoadSnapshot())
		require.Zero(t, j.recovered)
		require.Zero(t, server.CommitIndex())
		require.NoError(t, server.Init())
		require.Equal(t, want, j.entries())
		server.Stop()
	})
}

// TestLoadSnapshotThatTheMachineRefuses: Recovery may be anything afterwards, so
// Init restores it anew.
func TestLoadSnapshotThatTheMachineRefuses(t *testing.T) {
	inSaved(t, false, func(c *clusterTest, disk *vfs.Mem, want []journalEntry) {
		refuses := errors.New("test: not today")
		j := &journal{test: c, name: "s1"}
		machine := &refusing{journal: j, err: refuses}
		server, err := NewServer("s1", "/s1", c.network.Transporter("s1"), machine, j, "", withFileSystem(disk),
			WithRegistry(c.registry("s1")), WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		require.ErrorIs(t, server.LoadSnapshot(), refuses)
		require.Zero(t, server.CommitIndex())
		require.ErrorIs(t, server.Init(), refuses)
		require.Equal(t, Stopped, server.State())
		machine.err = nil
		require.NoError(t, server.Init())
		require.Equal(t, want, j.entries())
		server.Stop()
	})
}

// refusing is a journal that fails to recover.
type refusing struct {
	*journal
	err error
}

// Recovery is StateMachine's.
func (r *refusing) Recovery(state []byte) error {
	if r.err != nil {
		return r.err
	}
	return r.journal.Recovery(state)
}

// wiped is a copy of a disk without some of the names under a server's path.
func wiped(t *testing.T, disk *vfs.Mem, names ...string) *vfs.Mem {
	t.Helper()
	left := disk.CrashClone(vfs.Everything)
	for _, name := range names {
		dir := "/s1/" + name
		files, err := left.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		for _, file := range files {
			require.NoError(t, left.Remove(dir+"/"+file))
		}
		require.NoError(t, left.Remove(dir))
	}
	return left
}

// TestFault106_PartialWipe: a server of which some names were deleted and others
// not is no fresh one, unless what is left is all that is needed.
func TestFault106_PartialWipe(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		inSaved(t, compacted, func(c *clusterTest, disk *vfs.Mem, want []journalEntry) {
			for _, w := range []struct {
				names   []string
				load    error // of LoadSnapshot
				init    error
				entries int
			}{
				{nil, nil, nil, len(want)},
				{[]string{"conf", "state"}, nil, nil, len(want)},
				{[]string{"log"}, ErrPartialWipe, ErrPartialWipe, 0},
				{[]string{"log", "conf", "state"}, ErrPartialWipe, ErrPartialWipe, 0},
				{[]string{"snapshot"}, fs.ErrNotExist, nil, len(want)},
				{[]string{"log", "conf", "snapshot", "state"}, fs.ErrNotExist, nil, 0},
			} {
				if compacted && slices.Equal(w.names, []string{"snapshot"}) {
					w.init, w.entries = ErrPartialWipe, 0
				}
				what := strings.Join(w.names, " ")
				left := wiped(t, disk, w.names...)
				server, j := c.unstarted(left)
				err := server.LoadSnapshot()
				require.ErrorIs(t, err, w.load, what)
				require.Equal(t, errors.Is(w.load, fs.ErrNotExist), os.IsNotExist(err), what)
				before := files(t, left)
				err = server.Init()
				require.ErrorIs(t, err, w.init, what)
				if w.init != nil {
					require.Equal(t, before, files(t, left), "%s: touched", what)
					require.Error(t, server.Start(), what)
					continue
				}
				require.Len(t, j.entries(), w.entries, what)
				require.Equal(t, w.entries == 0, server.IsLogEmpty(), what)
				server.Stop()
			}
		})
	}
}

// files are the names of all files of a server, but for its lock.
func files(t *testing.T, disk *vfs.Mem) (all []string) {
	t.Helper()
	for _, dir := range []string{"log", "snapshot"} {
		names, err := disk.ReadDir("/s1/" + dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		for _, name := range names {
			if name != "lock" {
				all = append(all, filepath.Join(dir, name))
			}
		}
	}
	return all
}

// TestFault107_SecondServerInTheProcess: on the same directory, by the same name,
// by another one, and through a symbolic link.
func TestFault107_SecondServerInTheProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	link := filepath.Join(t.TempDir(), "link")
	network := NewMemoryNetwork(1)
	defer network.Close()
	start := func(path string) (Server, error) {
		s, err := NewServer("n1", path, network.Transporter("n1"), nil, nil, "", WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		return s, s.Init()
	}
	first, err := start(dir)
	require.NoError(t, err)
	paths := []string{dir, dir + "/../data", dir + "/"}
	if err := os.Symlink(dir, link); err == nil {
		paths = append(paths, link)
	}
	for _, path := range paths {
		second, err := start(path)
		require.ErrorIs(t, err, ErrLocked, path)
		require.ErrorIs(t, second.Start(), ErrLocked, path)
		require.False(t, second.Running())
		require.NoError(t, second.Err())
		second.Stop()
	}
	require.NoError(t, first.Start(), "the first is none the worse")
	first.Stop()
	for _, path := range paths {
		next, err := start(path)
		require.NoError(t, err, path)
		next.Stop()
	}
}
