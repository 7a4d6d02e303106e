package raft

// ReadIndexRequest is a member's question to the leader: up to where must my state
// machine have applied the log, for a read of mine that begins now to be linearizable
// (dissertation §6.4)? It is an extension of goraft's messages. Every exported field
// must reach the addressee, by Encode and Decode or as JSON.
type ReadIndexRequest struct {
	Term uint64 // the sender's, for people who look at messages; nothing depends on it
	Name string // the sender's name

	ClusterID uint64 // the sender's cluster
	To        string // the name of the addressee
	StoreID   uint64 // the sender's store
	ToStoreID uint64 // the addressee's store by the sender's configuration; 0: not bound
	Sequence  uint64 // identity of the question, repeated in its response
}

// ReadIndexResponse is the answer to a ReadIndexRequest.
type ReadIndexResponse struct {
	Term    uint64 // the sender's
	Success bool   // the sender led after the question had come, as a majority has said
	Index   uint64 // with Success: the last entry that a linearizable read must have seen

	ClusterID uint64 // the sender's cluster
	From      string // the sender's name
	StoreID   uint64 // the sender's store
	Refused   uint32 // why the request was not looked at; 0: it was (see protobuf/raft.proto)
	Sequence  uint64 // the request's
}
