package raft

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// errPower is what a disk answers when the power is gone.
var errPower = errors.New("no power")

// beginAlone starts a server on the disk and makes it lead a cluster of one, as a
// program does that begins whenever the log is empty. It reports whether it led.
func beginAlone(t *testing.T, disk *vfs.Mem) bool {
	t.Helper()
	transporter := NewHTTPTransporter("/raft", time.Second) // never used
	s, err := NewServer("a", "/data", transporter, nil, nil, "http://a", withFileSystem(disk),
		WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if s.Start() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*DefaultElectionTimeout)
	defer cancel()
	if s.IsLogEmpty() && s.ClusterID() == 0 {
		_, err := s.DoContext(ctx, &DefaultJoinCommand{Name: "a", ConnectionString: "http://a"})
		return err == nil
	}
	for ctx.Err() == nil && !s.Status().Ready {
		select {
		case <-ctx.Done():
		case <-time.After(DefaultHeartbeatInterval):
		}
	}
	return s.Status().Ready
}

// TestCrashWhileBeginning takes the power away at every call to the disk while a
// cluster begins: whatever is on the disk then, the server must come to lead.
func TestCrashWhileBeginning(t *testing.T) {
	led := false
	for crash := int64(1); !led; crash++ {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			var calls atomic.Int64
			disk.SetFault(func(vfs.Op) error {
				if calls.Add(1) >= crash {
					return errPower
				}
				return nil
			})
			led = beginAlone(t, disk) && calls.Load() < crash
			for name, choose := range map[string]vfs.Chooser{"nothing": vfs.Nothing, "everything": vfs.Everything} {
				if !beginAlone(t, disk.CrashClone(choose)) {
					t.Errorf("crash at call %d, %s of what was unsynced left: it does not lead again", crash, name)
				}
			}
		})
	}
}
