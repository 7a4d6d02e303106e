package raft

// timeoutNowCall is a TimeoutNow request on its way to its answer.
type timeoutNowCall struct {
	req    *TimeoutNowRequest
	answer chan *TimeoutNowResponse // holds one
}

// timeoutNow settles a leader's word that this server should stand: it does not.
// The answer leaves when the term that it tells is durable.
func (l *eventLoop) timeoutNow(c *timeoutNowCall) {
	r := l.raft
	response := &TimeoutNowResponse{Term: r.term, ClusterID: r.clusterID, From: r.name, StoreID: r.storeID}
	l.promises.ballots = append(l.promises.ballots, promise{deliver: func() { c.answer <- response }})
}
