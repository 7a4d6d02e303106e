package raft

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFault113_HeartbeatsOverHTTPWhileASnapshotIsHeld: a server holds the pieces of
// a snapshot back until the leader has heard of it again and again meanwhile, and
// takes it then.
func TestFault113_HeartbeatsOverHTTPWhileASnapshotIsHeld(t *testing.T) {
	for form, wrap := range map[string]func(*HTTPTransporter) Transporter{
		"streams": func(transporter *HTTPTransporter) Transporter { return transporter },
		"calls": func(transporter *HTTPTransporter) Transporter {
			return httpCalls{memoryCalls{transporter}, transporter}
		},
	} {
		t.Run(form, func(t *testing.T) {
			var h *httpServers
			var away atomic.Int32 // which server is cut off; -1: none
			var held atomic.Int32 // pieces that were held back
			var ready atomic.Bool
			away.Store(-1)
			handle := func(i int, next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if int(away.Load()) == i {
						http.Error(w, "cut off", http.StatusServiceUnavailable)
						return
					}
					if ready.Load() && strings.HasSuffix(r.URL.Path, "/snapshotRecovery") && held.Add(1) == 1 {
						h.heartbeats(i, 20)
					}
					next.ServeHTTP(w, r)
				})
			}
			h = newHTTPServers(t, 3, handle, wrap, WithSnapshotTrigger(150, 0))
			h.do(&testCommand{"first"})
			h.applied(1)
			behind := (h.leader() + 1) % 3
			away.Store(int32(behind))
			h.servers[behind].Stop()
			for i := range 600 {
				h.do(&testCommand{fmt.Sprint(i)})
			}
			h.until("the log to be compacted", func() bool { return h.servers[h.leader()].Status().FirstIndex > 200 })
			h.journals[behind].forget()
			ready.Store(true)
			away.Store(-1)
			require.NoError(t, h.servers[behind].Start())
			h.applied(601)
			require.NotZero(t, held.Load())
			require.Equal(t, 1, h.journals[behind].recovered)
		})
	}
}

// httpCalls is a transporter without streams.
type httpCalls struct {
	memoryCalls
	SnapshotTransporter
}

// heartbeats waits until the leader has heard of a server so many times.
func (h *httpServers) heartbeats(of, count int) {
	leader := h.servers[h.leader()]
	name := h.servers[of].Name()
	for range count {
		before := leader.Peers()[name].LastActivity()
		if !h.wait(func() bool { return leader.Peers()[name].LastActivity().After(before) }) {
			h.t.Errorf("the leader no longer hears of %s", name)
			return
		}
	}
}
