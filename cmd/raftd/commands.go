package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/goraft/raft"
)

// errCommand says that an entry of the log is not what a command of that name
// writes.
var errCommand = errors.New("raftd: not an encoded command")

// newRegistry returns a registry that knows raftd's commands. Their names stand
// in logs on disk: an encoding that changes takes a new name.
func newRegistry() (*raft.Registry, error) {
	registry := raft.NewRegistry()
	for _, command := range []raft.Command{&writeCommand{}, &deleteCommand{}} {
		if err := registry.Register(command); err != nil {
			return nil, err
		}
	}
	return registry, nil
}

// storeOf is the state of the server that applies a command.
func storeOf(c raft.Context) (*store, error) {
	s, ok := c.Server().StateMachine().(*store)
	if !ok {
		return nil, fmt.Errorf("raftd: the state machine is a %T", c.Server().StateMachine())
	}
	return s, nil
}

// writeCommand gives a key a value.
type writeCommand struct {
	key   string
	value []byte
}

// CommandName is "raftd:write".
func (c *writeCommand) CommandName() string { return "raftd:write" }

// Apply returns nothing.
func (c *writeCommand) Apply(ctx raft.Context) (interface{}, error) {
	s, err := storeOf(ctx)
	if err != nil {
		return nil, err
	}
	s.set(c.key, c.value)
	return nil, nil
}

// Encode writes the key after its length, then the value.
func (c *writeCommand) Encode(w io.Writer) error {
	if _, err := w.Write(appendString(nil, c.key)); err != nil {
		return err
	}
	_, err := w.Write(c.value)
	return err
}

// Decode reads what Encode wrote.
func (c *writeCommand) Decode(r io.Reader) error {
	b, err := readAll(r)
	if err != nil {
		return err
	}
	key, value, err := cutString(b)
	if err != nil {
		return err
	}
	c.key, c.value = string(key), value
	return nil
}

// deleteCommand takes a key's value away.
type deleteCommand struct {
	key string
}

// CommandName is "raftd:delete".
func (c *deleteCommand) CommandName() string { return "raftd:delete" }

// Apply returns whether there was a value.
func (c *deleteCommand) Apply(ctx raft.Context) (interface{}, error) {
	s, err := storeOf(ctx)
	if err != nil {
		return nil, err
	}
	return s.delete(c.key), nil
}

// Encode writes the key.
func (c *deleteCommand) Encode(w io.Writer) error {
	_, err := io.WriteString(w, c.key)
	return err
}

// Decode reads what Encode wrote.
func (c *deleteCommand) Decode(r io.Reader) error {
	key, err := readAll(r)
	c.key = string(key)
	return err
}

// readAll is io.ReadAll in one allocation where the reader knows its length.
func readAll(r io.Reader) ([]byte, error) {
	sized, ok := r.(interface{ Len() int })
	if !ok {
		return io.ReadAll(r)
	}
	b := make([]byte, sized.Len())
	_, err := io.ReadFull(r, b)
	return b, err
}

// appendString appends the text after its length.
func appendString[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// cutString returns what appendString wrote, and what follows it.
func cutString(b []byte) (text, rest []byte, err error) {
	length, rest, err := cutUvarint(b)
	if err != nil {
		return nil, nil, err
	}
	if length > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("%w: %d bytes where %d should follow", errCommand, len(rest), length)
	}
	return rest[:length], rest[length:], nil
}

func cutUvarint(b []byte) (n uint64, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, fmt.Errorf("%w: a length is cut short", errCommand)
	}
	return n, b[size:], nil
}
