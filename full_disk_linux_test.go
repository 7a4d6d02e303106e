package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smallDisk mounts an ext4 file system of 16 MiB, or skips the test where that is
// not allowed.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 16<<20))
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("no mkfs.ext4 here: Debian's e2fsprogs has it")
	}
	out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", image).CombinedOutput()
	require.NoError(t, err, "mkfs.ext4: %s", out)
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("root may not mount here, as in a container: %v: %s", err, out)
	}
	t.Cleanup(func() {
		out, err := exec.Command("umount", dir).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	return dir
}

// fillUp takes all the space that is left for a file of that name.
func fillUp(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	require.NoError(t, err)
	for size := 1 << 20; size > 0; {
		if _, err := io.CopyN(f, zeroes{}, int64(size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else {
			require.NoError(t, err)
		}
	}
	require.NoError(t, f.Close())
}

// waitForFiles returns when a server that was stopped has closed all files: Stop
// waits for a slow disk so long only.
func waitForFiles(s Server) { s.(*server).lifecycle.run.Load().tasks.Wait() }

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A server on a disk without a byte to spare refuses commands, stops, starts with
// all that it had, and serves again when there is space, without a restart.
func TestFault099_ServerOnARealDiskWithoutAByteFree(t *testing.T) {
	mounted := smallDisk(t)
	registry := NewRegistry()
	require.NoError(t, registry.Register(&testCommand{}))
	test := &clusterTest{t: t}
	var server Server
	var state *journal
	start := func() {
		var err error
		state = &journal{test: test, name: "s"}
		server, err = NewServer("s", filepath.Join(mounted, "s"), NewMemoryNetwork(1).Transporter("s"), state, state, "",
			WithRegistry(registry), WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		require.NoError(t, server.Start())
	}
	do := func(value string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := server.DoContext(ctx, &testCommand{value})
		return err
	}
	start()
	defer func() {
		server.Stop()
		waitForFiles(server)
	}()
	_, err := server.Do(&DefaultJoinCommand{Name: "s"})
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, do(fmt.Sprint("before", i)))
	}
	filler := filepath.Join(mounted, "filler")
	fillUp(t, filler)
	for i := 0; err == nil; i++ {
		err = do(fmt.Sprint("x", i, strings.Repeat(".", 8<<10)))
	}
	requireUnknown(t, err) // it waits for space
	requireNotApplied(t, do("refused"), ErrNoSpace)
	require.NotEmpty(t, server.Status().StorageError)
	require.NoError(t, server.Err())

	known := state.entries()
	server.Stop()
	start()
	require.Equal(t, known, state.entries()[:len(known)])
	fillUp(t, filler+"2") // what the old run has given back
	for err = nil; err == nil; {
		err = do(strings.Repeat("y", 8<<10))
	}
	require.NoError(t, os.Remove(filler))
	freed := time.Now()
	for errors.Is(err, ErrNoSpace) || errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, NotLeaderError) {
		require.Less(t, time.Since(freed), 5*time.Second)
		err = do("after")
	}
	require.NoError(t, err)
	require.Empty(t, server.Status().StorageError)
	require.NotContains(t, state.values(), "refused")
}
