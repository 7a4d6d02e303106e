package raft

// The types of events, for AddEventListener; goraft's names and values.
const (
	StateChangeEventType              = "stateChange"              // value and previous value: string
	LeaderChangeEventType             = "leaderChange"             // string; on followers too
	TermChangeEventType               = "termChange"               // uint64
	CommitEventType                   = "commit"                   // *LogEntry, before its Apply
	AddPeerEventType                  = "addPeer"                  // the member's name
	RemovePeerEventType               = "removePeer"               // the member's name
	HeartbeatIntervalEventType        = "heartbeatInterval"        // *Peer that did not answer
	ElectionTimeoutThresholdEventType = "electionTimeoutThreshold" // time.Duration since the leader's last word
	HeartbeatEventType                = "heartbeat"                // time.Duration of one exchange with a peer
	SnapshotFailedEventType           = "snapshotFailed"           // string; why taking a snapshot failed; the log grows meanwhile
	StorageEventType                  = "storage"                  // string, and previous: why this server cannot write for now, "" when it can
	FailureEventType                  = "failure"                  // error; why the server stops by itself or halts: see Err
)

// ElectionTimeoutThresholdPercent is the share of the election timeout after
// which a late message of the leader is an event.
const ElectionTimeoutThresholdPercent = 0.8

// Event is something that happened to a server.
type Event interface {
	Type() string
	Source() interface{} // the Server
	Value() interface{}
	PrevValue() interface{}
}

// EventListener hears events in the order in which they happened, on a
// goroutine of its own server's dispatcher: it may call any method, and a slow
// one delays only other listeners.
type EventListener func(Event)

type event struct {
	typ         string
	source      interface{}
	value, prev interface{}
}

func (e *event) Type() string           { return e.typ }
func (e *event) Source() interface{}    { return e.source }
func (e *event) Value() interface{}     { return e.value }
func (e *event) PrevValue() interface{} { return e.prev }
