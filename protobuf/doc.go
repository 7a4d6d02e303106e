// Package protobuf holds the messages that servers exchange: the generated code
// (raft.pb.go), which is their specification, and a codec by hand (wire.go) for
// package raft, which knows the same messages as plain structs.
//
// A program needs it only to name LogEntry, the type of the elements of
// raft.AppendEntriesRequest.Entries.
package protobuf

// The import path stands in the name of the file, because a program may link
// another raft.proto as well, and the names of registered files must differ.
//
//go:generate protoc -I github.com/goraft/raft/protobuf=. --go_out=. --go_opt=module=github.com/goraft/raft/protobuf github.com/goraft/raft/protobuf/raft.proto
