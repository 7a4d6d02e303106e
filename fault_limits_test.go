package raft

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goraft/raft/internal/vfs"
	"github.com/stretchr/testify/require"
)

// valueOf is a value whose command has so many bytes as an entry.
func valueOf(t *testing.T, bytes int) string {
	t.Helper()
	empty, err := encodeCommand(nil, kindCommand, &testCommand{})
	require.NoError(t, err)
	return strings.Repeat("x", bytes-len(empty))
}

// TestFault129_DecidedAtDo: an entry that is a byte too large is refused before
// anything is written, and one that is not goes every way that entries go: by
// streams and calls in each form, from memory and from the disk, behind a snapshot
// and in it, and back from the disk after a restart.
func TestFault129_DecidedAtDo(t *testing.T) {
	for form, options := range map[string]ClusterOptions{
		"streams": transports["streams"], "calls": transports["calls"], "bare": transports["bare"],
	} {
		for wire, how := range map[string]MessageForm{"structs": AsStructs, "protobuf": AsProtobuf, "json": AsJSON} {
			if form == "streams" && how != AsStructs {
				continue // streams carry structs
			}
			t.Run(fmt.Sprint(form, " ", wire), func(t *testing.T) {
				options := options
				options.Options = []Option{WithMaxEntryBytes(32 << 10), WithSnapshotTrigger(0, 0)}
				inRunningCluster(t, 3, options, func(c *clusterTest) {
					c.Network().SetForm(how)
					c.largestEntries(32 << 10)
				})
			})
		}
	}
	// The default limits of entries and of messages go together.
	inRunningCluster(t, 3, transports["bare"], func(c *clusterTest) {
		c.Network().SetForm(AsProtobuf)
		c.put(valueOf(t, DefaultMaxEntryBytes))
		c.within(10*testElection, "everybody to have it", func() bool { return len(c.journal("s3").entries())+len(c.journal("s2").entries()) == 2 })
	})
}

// largestEntries has entries of about the limit carried out.
func (c *clusterTest) largestEntries(limit int) {
	c.t.Helper()
	leader := c.leader()
	exact := valueOf(c.t, limit)
	c.put(exact[1:])
	before := leader.Status()
	for _, value := range []string{exact + "x", exact + exact} {
		_, err := leader.DoContext(c.ctx, &testCommand{value})
		requireNotApplied(c.t, err, ErrEntryTooLarge)
		_, err = leader.Do(&testCommand{value})
		require.Equal(c.t, ErrEntryTooLarge, err)
	}
	c.pass(testElection)
	after := leader.Status()
	require.Equal(c.t, before.LastIndex, after.LastIndex)
	require.Equal(c.t, before.Term, after.Term)
	require.Zero(c.t, after.UncommittedBytes)
	c.put(exact)
	c.converge()

	// By the log, to one that was away; and read from the disk again.
	away := c.followers()[0]
	c.Stop(away)
	c.put(exact)
	require.NoError(c.t, c.Start(away))
	c.converge()
	require.NoError(c.t, leader.TakeSnapshot())
	c.put(exact)
	require.NoError(c.t, c.Restart(leader.Name()))
	c.within(10*testElection, "a leader", func() bool { return c.Leader() != nil })
	c.converge()
	require.Len(c.t, c.journal(away).entries(), 4)
}

// TestFault129_OverHTTP: the largest entry by both of a transporter's ways.
func TestFault129_OverHTTP(t *testing.T) {
	for form, wrap := range map[string]func(*HTTPTransporter) Transporter{
		"streams": func(transporter *HTTPTransporter) Transporter { return transporter },
		"calls":   func(transporter *HTTPTransporter) Transporter { return memoryCalls{transporter} },
	} {
		t.Run(form, func(t *testing.T) {
			// A heartbeat that overtakes an entry on its way by a call has it sent
			// again: there are few.
			h := newHTTPServers(t, 3, nil, wrap, WithHeartbeatInterval(500*time.Millisecond))
			value := valueOf(t, DefaultMaxEntryBytes)
			h.do(&testCommand{value})
			h.applied(1)
			h.refused(&testCommand{value + "x"}, ErrEntryTooLarge)
			h.do(&testCommand{"after"})
			h.applied(2)
		})
	}
}

// counter is a state machine of eight bytes, however much is written to it.
type counter struct {
	count int
	fail  func() error
}

// Save is StateMachine's.
func (m *counter) Save() ([]byte, error) {
	if err := m.fail(); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%d", m.count), nil
}

// Recovery is StateMachine's.
func (m *counter) Recovery(state []byte) error {
	_, err := fmt.Sscanf(string(state), "%d", &m.count)
	return err
}

// countCommand has a counter count, and bytes that nobody needs.
type countCommand struct{ Padding string }

// CommandName is Command's.
func (*countCommand) CommandName() string { return "test:count" }

// Encode is CommandEncoder's.
func (c *countCommand) Encode(w io.Writer) error { return writeText(w, c.Padding) }

// Decode is CommandEncoder's.
func (c *countCommand) Decode(r io.Reader) (err error) {
	c.Padding, err = readText(r)
	return err
}

// Apply counts.
func (*countCommand) Apply(ctx Context) (interface{}, error) {
	m := ctx.Server().StateMachine().(*counter)
	m.count++
	return m.count, nil
}

// diskUse is how many bytes a server's files have, and how many files there are.
func diskUse(t *testing.T, disk *vfs.Mem, dir string) (bytes int64, files int) {
	t.Helper()
	names, err := disk.ReadDir(dir)
	require.NoError(t, err)
	for _, name := range names {
		info, err := disk.Stat(dir + "/" + name)
		require.NoError(t, err)
		bytes += info.Size()
	}
	return bytes, len(names)
}

// TestFault127_LogStaysBounded: one write a minute, for thirty days or some, of
// entries of which no number would ever make a snapshot due, and a day within them
// on which no snapshot succeeds.
func TestFault127_LogStaysBounded(t *testing.T) {
	const (
		entry   = 1 << 10
		trigger = 256 * entry
		segment = 64 << 10
		day     = 24 * 60
	)
	days := max(4, int(scale(30)))
	inCluster(t, 1, ClusterOptions{
		ElectionTimeout: time.Hour, HeartbeatInterval: 20 * time.Minute,
		Options: []Option{WithSnapshotTrigger(1<<40, trigger), WithMaxSegmentBytes(segment), WithMaxEntryBytes(2 * entry)},
	}, func(c *clusterTest) {
		c.ctx = context.Background()
		var broken atomic.Bool
		machine := &counter{fail: func() error {
			if broken.Load() {
				return syscall.ENOSPC
			}
			return nil
		}}
		c.options.StateMachine = func(string) StateMachine { return machine }
		alarms := make(chan string, 1000)
		c.options.Configure = func(_ string, s Server) {
			s.AddEventListener(SnapshotFailedEventType, func(e Event) { alarms <- e.Value().(string) })
		}
		require.NoError(t, c.registry("s1").Register(&countCommand{}))
		require.NoError(t, c.Bootstrap(c.ctx))
		s, disk := c.Server("s1"), c.node("s1").disk.Load()
		padding := strings.Repeat("x", entry-100)
		var most, atEnd int64
		for minute := range days * day {
			broken.Store(minute/day == days*17/30)
			_, err := s.Do(&countCommand{padding})
			require.NoError(t, err)
			c.pass(time.Minute)
			if minute%60 == 0 {
				bytes, _ := diskUse(t, disk, "/s1/log")
				most, atEnd = max(most, bytes), bytes
			}
			if broken.Load() && minute%day == day-1 {
				require.Contains(t, s.Status().SnapshotError, syscall.ENOSPC.Error())
				// At each tenth of a trigger, from the first that was due.
				require.InDelta(t, day*10/256, len(alarms), 12)
			}
		}
		// Two triggers, or the entries that stay at least, and one more trigger until
		// the next snapshot; in whole segments, of which the newest has space left.
		bound := int64(3*trigger + 2*segment)
		require.Less(t, atEnd, bound)
		// Each entry is followed by a seal here, in a sector of its own.
		require.Less(t, most, bound+int64(day*(entry+512)))
		require.Greater(t, most, int64(day*entry))
		require.Empty(t, s.Status().SnapshotError)
		require.Less(t, s.Status().LastIndex-s.Status().FirstIndex, uint64(3*256))
		require.Len(t, c.snapshots("s1"), keptSnapshots)
		_, files := diskUse(t, disk, "/s1/snapshot")
		require.Equal(t, keptSnapshots, files)
		require.Equal(t, days*day, machine.count)
		machine.count = 0
		require.NoError(t, c.Restart("s1"))
		require.Equal(t, days*day, machine.count)
	})
}
