package raft

// snapshotCall is an offer of a snapshot on its way to its answer.
type snapshotCall struct {
	req    *SnapshotRequest
	answer chan *SnapshotResponse // holds one
}

// requestSnapshot settles an offer of a snapshot: it is not taken. The answer
// leaves when the term that it tells is durable.
func (l *eventLoop) requestSnapshot(c *snapshotCall) {
	r := l.raft
	response := &SnapshotResponse{
		Term: r.term, CommitIndex: r.commitIndex,
		ClusterID: r.clusterID, From: r.name, StoreID: r.storeID,
	}
	l.promises.ballots = append(l.promises.ballots, promise{deliver: func() { c.answer <- response }})
}

func (s *server) SnapshotRecoveryRequest(req *SnapshotRecoveryRequest) *SnapshotRecoveryResponse {
	if req == nil {
		return nil
	}
	return await(s, func(answer chan *SnapshotRecoveryResponse) any {
		return control(func(l *eventLoop) {
			r := l.raft
			response := &SnapshotRecoveryResponse{
				Term: r.term, CommitIndex: r.commitIndex,
				ClusterID: r.clusterID, From: r.name, StoreID: r.storeID,
			}
			l.promises.ballots = append(l.promises.ballots, promise{deliver: func() { answer <- response }})
		})
	})
}
