package main

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/goraft/raft"
)

// writeStrings and readStrings are the encoding of all commands here: each string
// behind its length.
func writeStrings(w io.Writer, all ...string) error {
	var b []byte
	for _, s := range all {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	_, err := w.Write(b)
	return err
}

func readStrings(r io.Reader, all ...*string) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	for _, s := range all {
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)-n) {
			return errors.New("a command is cut short")
		}
		*s, b = string(b[n:n+int(length)]), b[n+int(length):]
	}
	return nil
}

// writePointCommand stores a point of a series.
type writePointCommand struct{ Series, Value string }

// CommandName is raft.Command's.
func (c *writePointCommand) CommandName() string { return "write_point" }

// Encode is raft.CommandEncoder's.
func (c *writePointCommand) Encode(w io.Writer) error { return writeStrings(w, c.Series, c.Value) }

// Decode is raft.CommandEncoder's.
func (c *writePointCommand) Decode(r io.Reader) error { return readStrings(r, &c.Series, &c.Value) }

// Apply stores the point.
func (c *writePointCommand) Apply(server raft.Server) (interface{}, error) {
	server.Context().(*config).set(c.Series, c.Value)
	return nil, nil
}

// joinCommand adds a server.
type joinCommand struct{ Name, ConnectionString string }

// CommandName is raft.Command's.
func (c *joinCommand) CommandName() string { return "join" }

// NodeName is the server's name.
func (c *joinCommand) NodeName() string { return c.Name }

// Encode is raft.CommandEncoder's.
func (c *joinCommand) Encode(w io.Writer) error { return writeStrings(w, c.Name, c.ConnectionString) }

// Decode is raft.CommandEncoder's.
func (c *joinCommand) Decode(r io.Reader) error { return readStrings(r, &c.Name, &c.ConnectionString) }

// Apply makes the server a member.
func (c *joinCommand) Apply(server raft.Server) (interface{}, error) {
	err := server.AddPeer(c.Name, c.ConnectionString)
	return []byte("join"), err
}

// forceLeaveCommand removes a server.
type forceLeaveCommand struct{ Name string }

// CommandName is raft.Command's.
func (c *forceLeaveCommand) CommandName() string { return "force_leave" }

// NodeName is the server's name.
func (c *forceLeaveCommand) NodeName() string { return c.Name }

// Encode is raft.CommandEncoder's.
func (c *forceLeaveCommand) Encode(w io.Writer) error { return writeStrings(w, c.Name) }

// Decode is raft.CommandEncoder's.
func (c *forceLeaveCommand) Decode(r io.Reader) error { return readStrings(r, &c.Name) }

// Apply removes the server.
func (c *forceLeaveCommand) Apply(server raft.Server) (interface{}, error) {
	return []byte("leave"), server.RemovePeer(c.Name)
}

// changeAddressCommand says that a server is somewhere else now.
type changeAddressCommand struct{ Name, ConnectionString string }

// CommandName is raft.Command's.
func (c *changeAddressCommand) CommandName() string { return "change_address" }

// Encode is raft.CommandEncoder's.
func (c *changeAddressCommand) Encode(w io.Writer) error {
	return writeStrings(w, c.Name, c.ConnectionString)
}

// Decode is raft.CommandEncoder's.
func (c *changeAddressCommand) Decode(r io.Reader) error {
	return readStrings(r, &c.Name, &c.ConnectionString)
}

// Apply removes the server and adds it again, at its new place.
func (c *changeAddressCommand) Apply(server raft.Server) (interface{}, error) {
	if err := server.RemovePeer(c.Name); err != nil {
		return nil, err
	}
	return nil, server.AddPeer(c.Name, c.ConnectionString)
}
