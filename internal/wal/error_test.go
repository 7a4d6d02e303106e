package wal

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

// TestErrorAtEveryCall fails every call of every path, in several ways: the error
// is reported, what was promised stays, and what follows is refused or works.
func TestErrorAtEveryCall(t *testing.T) {
	faults := map[string]func(vfs.Op) error{
		"EIO":         func(vfs.Op) error { return syscall.EIO },
		"ENOSPC":      func(vfs.Op) error { return syscall.ENOSPC },
		"short write": func(vfs.Op) error { return &vfs.ShortWrite{N: 40, Err: syscall.ENOSPC} },
	}
	for i, path := range paths {
		for name, fault := range faults {
			if scale(10) != 10 && i%4 != 0 {
				continue
			}
			t.Run(fmt.Sprint(path.name, " ", name), func(t *testing.T) {
				for round, done := 0, false; !done || round%2 == 1; round++ {
					calls := round / 2
					run := path.begin(t, 0)
					n := 0
					run.SetFault(func(op vfs.Op) error {
						if n++; n == calls+1 {
							return fault(op)
						}
						return nil
					})
					err := path.do(run)
					run.SetFault(nil)
					done = n <= calls
					if done && err != nil {
						t.Fatal(err)
					}
					var again error
					if err != nil && run.store != nil {
						again = run.store.SaveHardState(HardState{Term: 77})
						if errors.Is(err, ErrFailed) && !errors.Is(again, ErrFailed) && !errors.Is(again, ErrClosed) {
							t.Fatalf("call %d: %v, and then %v", calls, err, again)
						}
						if again == nil {
							run.before.hard, run.after.hard = HardState{Term: 77}, HardState{Term: 77}
						}
					}
					_ = run.store.Close()
					run.crash([]vfs.Chooser{vfs.Nothing, vfs.Everything}[round%2])
					if diff := path.oldOrNew(run, err == nil); diff != "" {
						t.Fatalf("call %d, error %v, then %v: %s", calls, err, again, diff)
					}
				}
			})
		}
	}
}
