package raft

import "io"

// JoinCommand is a command that adds a member. On an empty server that belongs
// to no cluster, one whose NodeName is the server's own name founds a cluster.
type JoinCommand interface {
	Command
	NodeName() string
}

// LeaveCommand is a command that removes a member. It has the methods of a
// JoinCommand: a type assertion cannot tell them apart.
type LeaveCommand interface {
	Command
	NodeName() string
}

// DefaultJoinCommand adds the member Name, which is reached by ConnectionString,
// to the cluster. Do on it returns []byte("join") when the member is in the
// committed configuration.
type DefaultJoinCommand struct {
	Name             string `json:"name"`
	ConnectionString string `json:"connectionString"`
}

// CommandName is "raft:join".
func (c *DefaultJoinCommand) CommandName() string { return "raft:join" }

// NodeName is the name of the member.
func (c *DefaultJoinCommand) NodeName() string { return c.Name }

// Apply adds the member by server.AddPeer, for programs that call it from a
// command of their own. Do never comes here: it makes a configuration entry of a
// DefaultJoinCommand.
func (c *DefaultJoinCommand) Apply(server Server) (interface{}, error) {
	return []byte("join"), server.AddPeer(c.Name, c.ConnectionString)
}

// DefaultLeaveCommand removes the member Name from the cluster. Do on it returns
// []byte("leave") when the removal is committed, and the same with ErrPeerNotFound
// if there is no such member. ErrNoQuorum says that the voters that would remain
// do not answer. The leader may remove itself; it then hands over its office.
type DefaultLeaveCommand struct {
	Name string `json:"name"`
}

// CommandName is "raft:leave".
func (c *DefaultLeaveCommand) CommandName() string { return "raft:leave" }

// NodeName is the name of the member.
func (c *DefaultLeaveCommand) NodeName() string { return c.Name }

// Apply removes the member by server.RemovePeer, for programs that call it from
// a command of their own. Do never comes here: it makes a configuration entry of
// a DefaultLeaveCommand.
func (c *DefaultLeaveCommand) Apply(server Server) (interface{}, error) {
	return []byte("leave"), server.RemovePeer(c.Name)
}

// NOPCommand does nothing. A leader's first entry is one.
type NOPCommand struct{}

// CommandName is "raft:nop".
func (c NOPCommand) CommandName() string { return "raft:nop" }

// Apply does nothing.
func (c NOPCommand) Apply(server Server) (interface{}, error) { return nil, nil }

// Encode writes nothing.
func (c NOPCommand) Encode(w io.Writer) error { return nil }

// Decode reads nothing.
func (c NOPCommand) Decode(r io.Reader) error { return nil }
