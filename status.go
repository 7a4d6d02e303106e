package raft

import "time"

// Status is what a server was at the end of one turn of its event loop. All of
// it belongs together.
type Status struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Term   uint64 `json:"term"`
	Leader string `json:"leader"`
	// Ready says that this server leads and has applied an entry of its own
	// term, and with it everything that was committed before. It does not while
	// the leader removes itself.
	Ready    bool   `json:"ready"`
	VotedFor string `json:"votedFor"`
	// NotStanding is why this server would not stand for election now, "" if it would.
	NotStanding string `json:"notStanding,omitempty"`
	// Election is the last one that this server stood for since it knew of a leader.
	Election *ElectionStatus `json:"election,omitempty"`
	// Transferring is who a leader hands its office over to.
	Transferring string `json:"transferring,omitempty"`
	// ElectionTimeout is the setting, in nanoseconds.
	ElectionTimeout time.Duration `json:"electionTimeout"`
	CommitIndex     uint64        `json:"commitIndex"`
	// LastApplied is the last entry that this server's state machine has seen;
	// it may be ahead of the rest.
	LastApplied uint64 `json:"lastApplied"`
	FirstIndex  uint64 `json:"firstIndex"`
	LastIndex   uint64 `json:"lastIndex"`
	LastTerm    uint64 `json:"lastTerm"`
	// DurableIndex is the last entry that this server's disk holds for sure.
	DurableIndex uint64         `json:"durableIndex"`
	ClusterID    uint64         `json:"clusterID"`
	StoreID      uint64         `json:"storeID"`
	Members      []MemberStatus `json:"members"`
	// ConfigurationIndex is the index of the entry that Members come from.
	ConfigurationIndex uint64 `json:"configurationIndex"`
	UncommittedBytes   int    `json:"uncommittedBytes"`
	// WaitingReads counts the reads that wait here, for a leader's word or for Apply.
	WaitingReads int `json:"waitingReads"`
	// DiskLatency is the smoothed time of a write to the log with its sync,
	// ApplyLatency that of an entry's Apply, in nanoseconds, 0 before the first.
	DiskLatency  time.Duration `json:"diskLatency"`
	ApplyLatency time.Duration `json:"applyLatency"`
	// EventsDropped counts the events that listeners were too slow for, Refused
	// the requests that were not for this server or not from its leader.
	EventsDropped uint64 `json:"eventsDropped"`
	Refused       uint64 `json:"refused"`
	// Error is that of Err. StorageError is why the server cannot write for now, ""
	// if it can: its disk is full, or has not answered for two election timeouts. It
	// goes on by itself when that is over.
	Error        string `json:"error,omitempty"`
	StorageError string `json:"storageError,omitempty"`
	// SnapshotIndex is the last entry of the newest snapshot, 0 if there is none;
	// SnapshotError is why taking the last one failed, "" if it did not.
	SnapshotIndex uint64 `json:"snapshotIndex"`
	SnapshotError string `json:"snapshotError,omitempty"`
}

// ElectionStatus is who has said what to a candidate. Each voter is in one of the lists.
type ElectionStatus struct {
	Term    uint64   `json:"term"`    // that it stands for
	PreVote bool     `json:"preVote"` // it asked only whether it would be elected
	Quorum  int      `json:"quorum"`
	Granted []string `json:"granted"`
	Refused []string `json:"refused"`
	Silent  []string `json:"silent"`
}

// The states in which a leader replicates to a member; see MemberStatus.
const (
	// ProgressProbe is one request at a time, until one shows where the logs agree.
	ProgressProbe = "probe"
	// ProgressReplicate is a window of requests under way.
	ProgressReplicate = "replicate"
	// ProgressSnapshot is a snapshot under way, because the log no longer has what the
	// member lacks.
	ProgressSnapshot = "snapshot"
)

// MemberStatus is one member of the configuration in force.
type MemberStatus struct {
	Name             string `json:"name"`
	ConnectionString string `json:"connectionString"`
	Voter            bool   `json:"voter"`
	Incarnation      uint64 `json:"incarnation"`
	StoreID          uint64 `json:"storeID"`
	// Match is the last entry that the member is known to store, and
	// LastActivity when it last answered, as of at most half an election timeout ago;
	// on the leader only.
	Match        uint64    `json:"match"`
	LastActivity time.Time `json:"lastActivity"`
	// SilentFor is for how long it has not answered, or this server has led without an
	// answer of it. Trouble is why nothing that it says counts, "" if it does.
	SilentFor time.Duration `json:"silentFor"`
	Trouble   string        `json:"trouble,omitempty"`
	// Lag is how many entries the member is behind the leader's log, Progress how it is
	// brought up to date (one of the constants, "" for the leader itself). The rest is
	// as of at most a heartbeat interval before: the first entry that was not sent yet,
	// the requests with entries under way and their bytes, and the smoothed time that a
	// heartbeat and its answer take in nanoseconds, 0 before the first. On the leader
	// only.
	Lag           uint64        `json:"lag"`
	Progress      string        `json:"progress,omitempty"`
	Next          uint64        `json:"next,omitempty"`
	InFlight      int           `json:"inFlight"`
	InFlightBytes int           `json:"inFlightBytes"`
	RTT           time.Duration `json:"rtt"`
}
