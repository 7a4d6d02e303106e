//go:build unix

package vfs

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const lockEnv = "RAFT_TEST_LOCK"

func TestMain(m *testing.M) {
	if name := os.Getenv(lockEnv); name != "" {
		holdLock(name)
		return
	}
	os.Exit(m.Run())
}

// holdLock is the other process of TestFault107: it holds the lock until it is killed.
func holdLock(name string) {
	if _, err := OS().Lock(name); err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		return
	}
	os.Stdout.WriteString("locked\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

func TestFault107_LockDiesWithItsProcess(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), lockEnv+"="+name)
	out, err := child.StdoutPipe()
	must(t, err)
	in, err := child.StdinPipe()
	must(t, err)
	defer in.Close()
	must(t, child.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatal(line, err)
	}
	if _, err := OS().Lock(name); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	must(t, child.Process.Kill())
	_ = child.Wait()
	l, err := OS().Lock(name)
	must(t, err)
	must(t, l.Close())
}

// What is forgotten is read all the same, and whoever keeps nothing in mind forgets
// nothing.
func TestForget(t *testing.T) {
	for name, fsys := range map[string]FS{"disk": OS(), "memory": NewMem()} {
		dir := t.TempDir()
		if name == "memory" {
			dir = "/dir"
			if err := fsys.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		f, err := fsys.OpenFile(filepath.Join(dir, "file"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(name, err)
		}
		want := bytes.Repeat([]byte("forgotten"), 100_000)
		if _, err := f.WriteAt(want, 0); err != nil {
			t.Fatal(name, err)
		}
		Forget(f) // nothing of it is on the disk
		if err := f.Sync(); err != nil {
			t.Fatal(name, err)
		}
		Forget(f)
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: it reads otherwise than it was written: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(name, err)
		}
		Forget(f) // a file that is closed, by a compaction perhaps
	}
}
