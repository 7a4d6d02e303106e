//go:build simulation

package simulation

import (
	"context"
	"errors"
	"time"

	"github.com/goraft/raft"
)

// offices are the actions by which leaders are asked to let others lead.
func offices() []action {
	return []action{
		{"transfer", "", func(n *nemesis) func() {
			to := ""
			if n.rand.IntN(3) > 0 {
				to = n.some().name
			}
			return n.handOver(func(leader raft.Server) error { return leader.TransferLeadership(context.Background(), to) })
		}},
		{"step down", "", func(n *nemesis) func() {
			cooldown := time.Duration(n.rand.Int64N(2 * int64(n.world.plan.election)))
			return n.handOver(func(leader raft.Server) error { return leader.StepDown(context.Background(), cooldown) })
		}},
	}
}

// offersFor is how many election timeouts a transfer may take: one until it is given
// up, four until a leader is heard of, and what settings of a server's own add.
const offersFor = 15

// handOver asks the leader, without waiting for it, and checks that it answers in time.
func (n *nemesis) handOver(ask func(leader raft.Server) error) func() {
	w := n.world
	leader := w.leader()
	if leader == nil {
		return nil
	}
	w.tasks.Go(func() {
		began := w.trace.now()
		err := ask(leader)
		took := w.trace.now() - began
		w.trace.printf("%s hands over: %v", leader.Name(), err)
		if took > offersFor*w.plan.election+w.longestPause() {
			w.violated("I12: to hand over took %s %v", leader.Name(), took)
		}
		for _, known := range []error{nil, raft.ErrTransfer, raft.NotLeaderError, raft.ErrLeadershipLost, raft.StopError, raft.ErrPeerNotFound} {
			if errors.Is(err, known) {
				return
			}
		}
		w.violated("I9: %s hands over: %v", leader.Name(), err)
	})
	return func() {}
}

// verify has a server show that it leads. If it does, nobody led a later term before it
// was asked.
func (c *client) verify(server raft.Server) {
	w := c.world
	limit := 4 * w.plan.election
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	latest, began := w.watch.latest(), w.trace.now()
	term, err := server.VerifyLeader(ctx)
	w.trace.printf("client %d: %s leads term %d (%v), the latest was %d", c.id, server.Name(), term, err, latest)
	if took := w.trace.now() - began; took > limit+w.plan.heartbeat+w.longestPause() {
		w.violated("I12: to verify that it leads took %s %v", server.Name(), took)
	}
	switch {
	case err == nil && term < latest:
		w.violated("I9: %s shows that it leads term %d, but somebody led %d before", server.Name(), term, latest)
	case err == nil:
		w.count(officesVerified)
	case !errors.Is(err, raft.NotLeaderError) && !errors.Is(err, raft.StopError) && !errors.Is(err, raft.CommandTimeoutError):
		w.violated("I9: %s shows whether it leads: %v", server.Name(), err)
	}
}

const officesVerified = "offices verified"

// latest is the last term that somebody is known to have led.
func (w *watch) latest() (term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for t := range w.leaders {
		term = max(term, t)
	}
	return term
}
