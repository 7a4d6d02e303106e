package raft

// readIndexCall is a ReadIndex request on its way to its answer.
type readIndexCall struct {
	req    *ReadIndexRequest
	answer chan *ReadIndexResponse // holds one
}
