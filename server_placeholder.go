package raft

import "errors"

// What other rooms define; this file goes when they are merged.

type Server interface {
	AddPeer(name string, connectionString string) error
}

type Peer struct {
	Name             string `json:"name"`
	ConnectionString string `json:"connectionString"`
}

var ErrUnregisteredCommand = errors.New("raft: command is not registered")
