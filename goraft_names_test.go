package raft_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goraft/raft"
	"github.com/goraft/raft/protobuf"
	"github.com/stretchr/testify/require"
)

// This file names everything that goraft exported, with the types it had, as a
// program of another package sees it. That the declarations compile is the test;
// the functions below them compare what the compiler does not.

// Constants: untyped, so that programs may give them types of their own.
const (
	_ int8 = raft.Debug
	_ int8 = raft.Trace

	_ uint16 = raft.MaxLogEntriesPerRequest
	_ uint16 = raft.NumberOfLogEntriesAfterSnapshot

	_ float32 = raft.ElectionTimeoutThresholdPercent
)

type anyString string

const (
	_ anyString = raft.Stopped + raft.Initialized + raft.Follower + raft.Candidate + raft.Leader + raft.Snapshotting
	_ anyString = raft.StateChangeEventType + raft.LeaderChangeEventType + raft.TermChangeEventType +
		raft.CommitEventType + raft.AddPeerEventType + raft.RemovePeerEventType +
		raft.HeartbeatIntervalEventType + raft.ElectionTimeoutThresholdEventType + raft.HeartbeatEventType
)

// Errors are values that programs compare with ==.
var _ = []*error{&raft.NotLeaderError, &raft.DuplicatePeerError, &raft.CommandTimeoutError, &raft.StopError}

// Durations have a type.
const _ time.Duration = raft.DefaultHeartbeatInterval + raft.DefaultElectionTimeout

// Functions. NewServer takes options too, so that as a value it has another type.
var (
	_ func() int                                                                                          = raft.LogLevel
	_ func(int)                                                                                           = raft.SetLogLevel
	_ func(raft.Command)                                                                                  = raft.RegisterCommand
	_ func(string, time.Duration) *raft.HTTPTransporter                                                   = raft.NewHTTPTransporter
	_ func(string, string, raft.Transporter, raft.StateMachine, interface{}, string) (raft.Server, error) = func(
		name, path string, t raft.Transporter, m raft.StateMachine, c interface{}, address string,
	) (raft.Server, error) {
		return raft.NewServer(name, path, t, m, c, address)
	}
)

// goraftServer is goraft's Server.
type goraftServer interface {
	Name() string
	Context() interface{}
	StateMachine() raft.StateMachine
	Leader() string
	State() string
	Path() string
	LogPath() string
	SnapshotPath(lastIndex uint64, lastTerm uint64) string
	Term() uint64
	CommitIndex() uint64
	VotedFor() string
	MemberCount() int
	QuorumSize() int
	IsLogEmpty() bool
	LogEntries() []*raft.LogEntry
	LastCommandName() string
	GetState() string
	ElectionTimeout() time.Duration
	SetElectionTimeout(duration time.Duration)
	HeartbeatInterval() time.Duration
	SetHeartbeatInterval(duration time.Duration)
	Transporter() raft.Transporter
	SetTransporter(t raft.Transporter)
	AppendEntries(req *raft.AppendEntriesRequest) *raft.AppendEntriesResponse
	RequestVote(req *raft.RequestVoteRequest) *raft.RequestVoteResponse
	RequestSnapshot(req *raft.SnapshotRequest) *raft.SnapshotResponse
	SnapshotRecoveryRequest(req *raft.SnapshotRecoveryRequest) *raft.SnapshotRecoveryResponse
	AddPeer(name string, connectiongString string) error
	RemovePeer(name string) error
	Peers() map[string]*raft.Peer
	Init() error
	Start() error
	Stop()
	Running() bool
	Do(command raft.Command) (interface{}, error)
	TakeSnapshot() error
	LoadSnapshot() error
	AddEventListener(string, raft.EventListener)
	FlushCommitIndex()
}

var _ goraftServer = raft.Server(nil)

// fakeServer is how programs' tests make a server: by embedding.
type fakeServer struct{ raft.Server }

func (fakeServer) State() string { return "leader" }

var _ raft.Server = fakeServer{}

// The other interfaces, in both directions: a program implements them, and calls
// what implements them.
type (
	goraftCommand interface {
		CommandName() string
	}
	goraftCommandApply interface {
		Apply(raft.Context) (interface{}, error)
	}
	goraftCommandEncoder interface {
		Encode(w io.Writer) error
		Decode(r io.Reader) error
	}
	goraftMemberCommand interface {
		CommandName() string
		NodeName() string
	}
	goraftContext interface {
		Server() raft.Server
		CurrentTerm() uint64
		CurrentIndex() uint64
		CommitIndex() uint64
	}
	goraftStateMachine interface {
		Save() ([]byte, error)
		Recovery([]byte) error
	}
	goraftTransporter interface {
		SendVoteRequest(server raft.Server, peer *raft.Peer, req *raft.RequestVoteRequest) *raft.RequestVoteResponse
		SendAppendEntriesRequest(server raft.Server, peer *raft.Peer, req *raft.AppendEntriesRequest) *raft.AppendEntriesResponse
		SendSnapshotRequest(server raft.Server, peer *raft.Peer, req *raft.SnapshotRequest) *raft.SnapshotResponse
		SendSnapshotRecoveryRequest(server raft.Server, peer *raft.Peer, req *raft.SnapshotRecoveryRequest) *raft.SnapshotRecoveryResponse
	}
	goraftEvent interface {
		Type() string
		Source() interface{}
		Value() interface{}
		PrevValue() interface{}
	}
	goraftMuxer interface {
		HandleFunc(string, func(http.ResponseWriter, *http.Request))
	}
	goraftMessage interface {
		Encode(w io.Writer) (int, error)
		Decode(r io.Reader) (int, error)
	}
)

var (
	_ goraftCommand        = raft.Command(nil)
	_ raft.Command         = goraftCommand(nil)
	_ goraftCommandApply   = raft.CommandApply(nil)
	_ raft.CommandApply    = goraftCommandApply(nil)
	_ goraftCommandEncoder = raft.CommandEncoder(nil)
	_ raft.CommandEncoder  = goraftCommandEncoder(nil)
	_ goraftMemberCommand  = raft.JoinCommand(nil)
	_ raft.JoinCommand     = goraftMemberCommand(nil)
	_ goraftMemberCommand  = raft.LeaveCommand(nil)
	_ raft.LeaveCommand    = goraftMemberCommand(nil)
	_ goraftContext        = raft.Context(nil)
	_ raft.Context         = goraftContext(nil)
	_ goraftStateMachine   = raft.StateMachine(nil)
	_ raft.StateMachine    = goraftStateMachine(nil)
	_ goraftTransporter    = raft.Transporter(nil)
	_ raft.Transporter     = goraftTransporter(nil)
	_ goraftEvent          = raft.Event(nil)
	_ raft.Event           = goraftEvent(nil)
	_ goraftMuxer          = raft.HTTPMuxer(nil)
	_ raft.HTTPMuxer       = goraftMuxer(nil)
	_ raft.HTTPMuxer       = http.NewServeMux()

	_ raft.EventListener = func(raft.Event) {}
	_ func(raft.Event)   = raft.EventListener(nil)
	_ goraftMessage      = (*raft.LogEntry)(nil)
	_ []goraftMessage    = []goraftMessage{
		&raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{}, &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{},
		&raft.SnapshotRequest{}, &raft.SnapshotResponse{}, &raft.SnapshotRecoveryRequest{}, &raft.SnapshotRecoveryResponse{},
	}
)

// The commands: pointers but for the nop, whose methods are a value's.
var (
	_ goraftMemberCommand = &raft.DefaultJoinCommand{Name: "", ConnectionString: ""}
	_ goraftMemberCommand = &raft.DefaultLeaveCommand{Name: ""}

	_ func(*raft.DefaultJoinCommand, raft.Server) (interface{}, error)  = (*raft.DefaultJoinCommand).Apply
	_ func(*raft.DefaultLeaveCommand, raft.Server) (interface{}, error) = (*raft.DefaultLeaveCommand).Apply
	_ func(raft.NOPCommand, raft.Server) (interface{}, error)           = raft.NOPCommand.Apply

	_ goraftCommand        = raft.NOPCommand{}
	_ goraftCommandEncoder = raft.NOPCommand{}
)

// The fields of structs, and the methods that no interface above has.
var (
	peer = raft.Peer{Name: "n", ConnectionString: "c"}

	_ *string                     = &peer.Name
	_ *string                     = &peer.ConnectionString
	_ *sync.RWMutex               = &peer.RWMutex
	_ sync.Locker                 = &peer
	_ func(*raft.Peer) time.Time  = (*raft.Peer).LastActivity
	_ func(*raft.LogEntry) uint64 = (*raft.LogEntry).Index
	_ func(*raft.LogEntry) uint64 = (*raft.LogEntry).Term
	_ func(*raft.LogEntry) string = (*raft.LogEntry).CommandName
	_ func(*raft.LogEntry) []byte = (*raft.LogEntry).Command
	_ *int64                      = &new(raft.LogEntry).Position
	_ func(*raft.Log) uint64      = (*raft.Log).CommitIndex
	_                             = raft.Log{ApplyFunc: func(*raft.LogEntry, raft.Command) (interface{}, error) { return nil, nil }}
	_                             = raft.Config{CommitIndex: uint64(0), Peers: []*raft.Peer(nil)}
	_                             = raft.Snapshot{LastIndex: uint64(0), LastTerm: uint64(0), Peers: []*raft.Peer(nil), State: []byte(nil), Path: ""}

	_ func(*raft.AppendEntriesResponse) uint64 = (*raft.AppendEntriesResponse).Index
	_ func(*raft.AppendEntriesResponse) uint64 = (*raft.AppendEntriesResponse).CommitIndex
	_ func(*raft.AppendEntriesResponse) uint64 = (*raft.AppendEntriesResponse).Term
	_ func(*raft.AppendEntriesResponse) bool   = (*raft.AppendEntriesResponse).Success
)

// The messages, with their keys: without keys they no longer compile.
var (
	_ = raft.AppendEntriesRequest{
		Term: uint64(0), PrevLogIndex: uint64(0), PrevLogTerm: uint64(0), CommitIndex: uint64(0), LeaderName: "",
		Entries: []*protobuf.LogEntry(nil),
	}
	_ = raft.RequestVoteRequest{Term: uint64(0), LastLogIndex: uint64(0), LastLogTerm: uint64(0), CandidateName: ""}
	_ = raft.RequestVoteResponse{Term: uint64(0), VoteGranted: false}
	_ = raft.SnapshotRequest{LeaderName: "", LastIndex: uint64(0), LastTerm: uint64(0)}
	_ = raft.SnapshotResponse{Success: false}
	_ = raft.SnapshotRecoveryRequest{
		LeaderName: "", LastIndex: uint64(0), LastTerm: uint64(0), Peers: []*raft.Peer(nil), State: []byte(nil),
	}
	_ = raft.SnapshotRecoveryResponse{Term: uint64(0), Success: false, CommitIndex: uint64(0)}
)

// The transporter over HTTP.
var (
	_ = raft.HTTPTransporter{DisableKeepAlives: true, Transport: (*http.Transport)(nil)}

	_ goraftTransporter                                        = (*raft.HTTPTransporter)(nil)
	_ func(*raft.HTTPTransporter) string                       = (*raft.HTTPTransporter).Prefix
	_ func(*raft.HTTPTransporter) string                       = (*raft.HTTPTransporter).AppendEntriesPath
	_ func(*raft.HTTPTransporter) string                       = (*raft.HTTPTransporter).RequestVotePath
	_ func(*raft.HTTPTransporter) string                       = (*raft.HTTPTransporter).SnapshotPath
	_ func(*raft.HTTPTransporter) string                       = (*raft.HTTPTransporter).SnapshotRecoveryPath
	_ func(*raft.HTTPTransporter, raft.Server, raft.HTTPMuxer) = (*raft.HTTPTransporter).Install
)

// Package protobuf, as goraft's generator had made it.
var (
	_ = protobuf.LogEntry{Index: new(uint64), Term: new(uint64), CommandName: new(string), Command: []byte(nil)}

	_ func(*protobuf.LogEntry) uint64 = (*protobuf.LogEntry).GetIndex
	_ func(*protobuf.LogEntry) uint64 = (*protobuf.LogEntry).GetTerm
	_ func(*protobuf.LogEntry) string = (*protobuf.LogEntry).GetCommandName
	_ func(*protobuf.LogEntry) []byte = (*protobuf.LogEntry).GetCommand

	_ = protobuf.AppendEntriesRequest{Entries: []*protobuf.LogEntry(nil)}
	_ = protobuf.AppendEntriesResponse{Success: new(bool)}
	_ = protobuf.RequestVoteRequest{CandidateName: new(string)}
	_ = protobuf.RequestVoteResponse{VoteGranted: new(bool)}
	_ = protobuf.SnapshotRequest{LeaderName: new(string)}
	_ = protobuf.SnapshotResponse{Success: new(bool)}
	_ = protobuf.SnapshotRecoveryRequest{Peers: []*protobuf.SnapshotRecoveryRequest_Peer{{ConnectionString: new(string)}}}
	_ = protobuf.SnapshotRecoveryResponse{CommitIndex: new(uint64)}
)

// TestGoraftConstants compares the constants' values with goraft's: programs also
// write the literals.
func TestGoraftConstants(t *testing.T) {
	for _, c := range []struct{ got, want interface{} }{
		{raft.Debug, 1},
		{raft.Trace, 2},
		{raft.StateChangeEventType, "stateChange"},
		{raft.LeaderChangeEventType, "leaderChange"},
		{raft.TermChangeEventType, "termChange"},
		{raft.CommitEventType, "commit"},
		{raft.AddPeerEventType, "addPeer"},
		{raft.RemovePeerEventType, "removePeer"},
		{raft.HeartbeatIntervalEventType, "heartbeatInterval"},
		{raft.ElectionTimeoutThresholdEventType, "electionTimeoutThreshold"},
		{raft.HeartbeatEventType, "heartbeat"},
		{raft.Stopped, "stopped"},
		{raft.Initialized, "initialized"},
		{raft.Follower, "follower"},
		{raft.Candidate, "candidate"},
		{raft.Leader, "leader"},
		{raft.Snapshotting, "snapshotting"},
		{raft.MaxLogEntriesPerRequest, 2000},
		{raft.NumberOfLogEntriesAfterSnapshot, 200},
		{raft.DefaultHeartbeatInterval, 50 * time.Millisecond},
		{raft.DefaultElectionTimeout, 150 * time.Millisecond},
		{raft.ElectionTimeoutThresholdPercent, 0.8},
		{raft.NotLeaderError.Error(), "raft.Server: Not current leader"},
		{raft.DuplicatePeerError.Error(), "raft.Server: Duplicate peer"},
		{raft.CommandTimeoutError.Error(), "raft: Command timeout"},
		{raft.StopError.Error(), "raft: Has been stopped"},
		{(&raft.DefaultJoinCommand{}).CommandName(), "raft:join"},
		{(&raft.DefaultLeaveCommand{}).CommandName(), "raft:leave"},
		{raft.NOPCommand{}.CommandName(), "raft:nop"},
		{raft.LogLevel(), 0},
		{new(raft.Log).CommitIndex(), uint64(0)},
	} {
		require.Equal(t, c.want, c.got)
	}
}

// TestGoraftFields compares the fields that goraft exported, in their order, with
// their tags. New fields stand behind them.
func TestGoraftFields(t *testing.T) {
	for _, c := range []struct {
		of   interface{}
		want string
	}{
		{raft.DefaultJoinCommand{}, `Name string json:"name"; ConnectionString string json:"connectionString"`},
		{raft.DefaultLeaveCommand{}, `Name string json:"name"`},
		{raft.Config{}, `CommitIndex uint64 json:"commitIndex"; Peers []*raft.Peer json:"peers"`},
		{&raft.Peer{}, `Name string json:"name"; ConnectionString string json:"connectionString"; RWMutex sync.RWMutex`},
		{raft.Log{}, `ApplyFunc func(*raft.LogEntry, raft.Command) (interface {}, error)`},
		{raft.LogEntry{}, `Position int64`},
		{raft.Snapshot{}, `LastIndex uint64 json:"lastIndex"; LastTerm uint64 json:"lastTerm"; Peers []*raft.Peer json:"peers"; ` +
			`State []uint8 json:"state"; Path string json:"path"`},
		{raft.AppendEntriesRequest{}, `Term uint64; PrevLogIndex uint64; PrevLogTerm uint64; CommitIndex uint64; LeaderName string; ` +
			`Entries []*protobuf.LogEntry`},
		{raft.RequestVoteRequest{}, `Term uint64; LastLogIndex uint64; LastLogTerm uint64; CandidateName string`},
		{raft.RequestVoteResponse{}, `Term uint64; VoteGranted bool`},
		{raft.SnapshotRequest{}, `LeaderName string; LastIndex uint64; LastTerm uint64`},
		{raft.SnapshotResponse{}, `Success bool json:"success"`},
		{raft.SnapshotRecoveryRequest{}, `LeaderName string; LastIndex uint64; LastTerm uint64; Peers []*raft.Peer; State []uint8`},
		{raft.SnapshotRecoveryResponse{}, `Term uint64; Success bool; CommitIndex uint64`},
		{&raft.HTTPTransporter{}, `DisableKeepAlives bool; Transport *http.Transport`},
	} {
		typ := reflect.TypeOf(c.of)
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		var fields []string
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() {
				fields = append(fields, strings.TrimSpace(fmt.Sprint(f.Name, " ", f.Type, " ", f.Tag)))
			}
		}
		want := strings.Split(c.want, "; ")
		require.GreaterOrEqual(t, len(fields), len(want), typ)
		require.Equal(t, want, fields[:len(want)], typ)
	}
}

// TestGoraftJSON holds the forms that programs serve to others and clone by.
func TestGoraftJSON(t *testing.T) {
	for _, c := range []struct {
		value interface{}
		want  string
	}{
		{&raft.Peer{Name: "n1", ConnectionString: "http://h:1"}, `{"name":"n1","connectionString":"http://h:1"}`},
		{[]*raft.LogEntry{{}}, `[{"Position":0}]`},
		{&raft.DefaultJoinCommand{Name: "n1", ConnectionString: "c"}, `{"name":"n1","connectionString":"c"}`},
		{raft.Config{CommitIndex: 1}, `{"commitIndex":1,"peers":null}`},
		{raft.Snapshot{LastIndex: 2, State: []byte("x")}, `{"lastIndex":2,"lastTerm":0,"peers":null,"state":"eA==","path":""}`},
	} {
		got, err := json.Marshal(c.value)
		require.NoError(t, err)
		require.Equal(t, c.want, string(got))
	}
	index, term, name := uint64(2), uint64(1), "raft:nop"
	before := &raft.AppendEntriesRequest{
		Term: 3, PrevLogIndex: 1, CommitIndex: 1, LeaderName: "n1",
		Entries: []*protobuf.LogEntry{{Index: &index, Term: &term, CommandName: &name, Command: []byte("x")}},
	}
	text, err := json.Marshal(before)
	require.NoError(t, err)
	var after raft.AppendEntriesRequest
	require.NoError(t, json.Unmarshal(text, &after))
	require.Equal(t, before.LeaderName, after.LeaderName)
	require.Equal(t, before.Entries[0].GetCommand(), after.Entries[0].GetCommand())
	require.Equal(t, before.Entries[0].GetCommandName(), after.Entries[0].GetCommandName())
}
