package raft

// What stands in this file is kept so that programs which name it compile. A
// server neither makes nor takes any of it.

// MaxLogEntriesPerRequest was how many entries goraft sent at once. Requests are
// bounded by their bytes here.
const MaxLogEntriesPerRequest = 2000

// Config is what goraft kept in its file conf. A server's configuration is part
// of its log here; Peers and Status tell it.
type Config struct {
	CommitIndex uint64  `json:"commitIndex"`
	Peers       []*Peer `json:"peers"`
}

// Log is goraft's log, which no program could reach. A server has one of its own;
// LogEntries and LogPath tell of it.
type Log struct {
	// ApplyFunc is called by nothing.
	ApplyFunc func(*LogEntry, Command) (interface{}, error)
}

// CommitIndex is 0: no server writes to a Log. A server's is Server.CommitIndex.
func (l *Log) CommitIndex() uint64 { return 0 }

// Snapshot is what goraft wrote to a file as JSON. The files of this package are
// of another format: see docs/format.md.
type Snapshot struct {
	LastIndex uint64  `json:"lastIndex"`
	LastTerm  uint64  `json:"lastTerm"`
	Peers     []*Peer `json:"peers"`
	State     []byte  `json:"state"`
	Path      string  `json:"path"`
}
