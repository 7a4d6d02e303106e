package raft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/goraft/raft/internal/wal"
)

// maxCommandBytes bounds an encoded command so that its record's length never
// overflows, whatever limit of entries a server was given.
const maxCommandBytes = 1 << 30

// Command is a change of the application's state. It is applied on every server
// in the order of the log by its Apply method: that of CommandApply, or
// goraft's older Apply(Server) (interface{}, error).
//
// A command travels as JSON unless it, or a pointer to it, is a CommandEncoder.
type Command interface {
	// CommandName names the type of the command. It is registered under that
	// name, which must be the same on all servers.
	CommandName() string
}

// CommandApply is a Command that can be applied.
type CommandApply interface {
	// Apply changes the application's state and returns what Do returns. It must
	// do the same on every server.
	Apply(Context) (interface{}, error)
}

// deprecatedCommandApply is how commands of goraft's first users are applied.
type deprecatedCommandApply interface {
	Apply(Server) (interface{}, error)
}

// CommandEncoder is a Command with an encoding of its own.
type CommandEncoder interface {
	// Encode writes the command. It must not use w after it has returned. Its
	// error is what Do returns.
	Encode(w io.Writer) error
	// Decode sets a new command from what Encode wrote; it is not called if that
	// was nothing. It must not use r after it has returned. An error halts the
	// server.
	Decode(r io.Reader) error
}

// UnregisteredCommandError says that a command's type is not registered.
// errors.Is(err, ErrUnregisteredCommand) holds.
type UnregisteredCommandError struct {
	Name string // the command's name
}

// Error is goraft's text.
func (e *UnregisteredCommandError) Error() string {
	return "raft.Command: Unregistered command type: " + e.Name
}

// Is reports whether the target is ErrUnregisteredCommand.
func (e *UnregisteredCommandError) Is(target error) bool { return target == ErrUnregisteredCommand }

// CommandNameError says that a command cannot be replicated under its name.
type CommandNameError struct {
	Name string
}

// Error tells what is wrong with the name.
func (e *CommandNameError) Error() string {
	if e.Name == "" {
		return "raft: a command without a name"
	}
	return fmt.Sprintf("raft: a command's name of %d bytes, at most %d are possible", len(e.Name), wal.MaxRecordName)
}

// CommandDecodeError says that a registered command's bytes do not decode.
type CommandDecodeError struct {
	Index uint64 // the entry
	Name  string // the command's name
	Err   error  // of Decode or of package json, or a *CommandPanicError
}

// Error names the entry, the command and the cause.
func (e *CommandDecodeError) Error() string {
	return fmt.Sprintf("raft: command %s at index %d does not decode: %v", e.Name, e.Index, e.Err)
}

// Unwrap returns the cause.
func (e *CommandDecodeError) Unwrap() error { return e.Err }

// CommandPanicError is a panic of a command's own code.
type CommandPanicError struct {
	Method string      // what panicked, such as Encode
	Value  interface{} // what it panicked with
	Stack  string      // where
}

// Error tells the method and the value.
func (e *CommandPanicError) Error() string {
	return fmt.Sprintf("raft: a command's %s panicked: %v", e.Method, e.Value)
}

// Unwrap returns the value of the panic if that is an error.
func (e *CommandPanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// containPanic turns a panic of the deferring function into an error.
func containPanic(method string, err *error) {
	if v := recover(); v != nil {
		*err = &CommandPanicError{Method: method, Value: v, Stack: string(debug.Stack())}
	}
}

// Registry knows the types of commands by their names. It is safe for concurrent
// use.
type Registry struct {
	types atomic.Pointer[map[string]commandType]
}

type commandType struct {
	typ     reflect.Type // never a pointer
	encoder bool         // *typ is a CommandEncoder
}

// NewRegistry returns a registry that knows raft:join, raft:leave and raft:nop.
func NewRegistry() *Registry {
	r := new(Registry)
	types := make(map[string]commandType)
	for _, c := range []Command{&DefaultJoinCommand{}, &DefaultLeaveCommand{}, NOPCommand{}} {
		types[c.CommandName()] = commandTypeOf(c)
	}
	r.types.Store(&types)
	return r
}

func commandTypeOf(command Command) commandType {
	typ := reflect.TypeOf(command)
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	_, encoder := reflect.New(typ).Interface().(CommandEncoder)
	return commandType{typ: typ, encoder: encoder}
}

// defaultRegistry is the one that RegisterCommand adds to.
var defaultRegistry = NewRegistry()

// RegisterCommand makes a type of commands known to the servers that have no
// registry of their own. The command may be a pointer or a value, nil pointers
// included; only its type and name matter. It panics if the command is nil or
// its name is already registered.
func RegisterCommand(command Command) {
	if err := defaultRegistry.Register(command); err != nil {
		panic(err.Error())
	}
}

// Register makes a type of commands known, as RegisterCommand does, but returns
// an error where that panics.
func (r *Registry) Register(command Command) error {
	if command == nil {
		return errors.New("raft: Cannot register nil")
	}
	name, typ := command.CommandName(), commandTypeOf(command)
	for {
		known := r.types.Load()
		if _, ok := (*known)[name]; ok {
			return errors.New("raft: Duplicate registration: " + name)
		}
		types := maps.Clone(*known)
		types[name] = typ
		if r.types.CompareAndSwap(known, &types) {
			return nil
		}
	}
}

// registered reports whether the registry knows the name.
func (r *Registry) registered(name string) bool {
	_, ok := (*r.types.Load())[name]
	return ok
}

// decode makes a new command of an entry. It fails with
// *UnregisteredCommandError or *CommandDecodeError. The command keeps none of
// the record's memory, unless its Decode went out of its way to do so.
func (r *Registry) decode(record wal.Record) (Command, error) {
	typ, ok := (*r.types.Load())[string(record.Name())]
	if !ok {
		return nil, &UnregisteredCommandError{Name: string(record.Name())}
	}
	command := reflect.New(typ.typ).Interface().(Command)
	if len(record.Data()) == 0 {
		return command, nil
	}
	if err := decodeCommand(command, typ.encoder, record.Data()); err != nil {
		return nil, &CommandDecodeError{Index: record.Index(), Name: string(record.Name()), Err: err}
	}
	return command, nil
}

var commandReaders = sync.Pool{New: func() any { return new(bytes.Reader) }}

func decodeCommand(command Command, encoder bool, data []byte) (err error) {
	defer containPanic("Decode", &err)
	if !encoder {
		return json.Unmarshal(data, command)
	}
	reader := commandReaders.Get().(*bytes.Reader)
	reader.Reset(data)
	err = command.(CommandEncoder).Decode(reader)
	reader.Reset(nil)
	commandReaders.Put(reader)
	return err
}

// commandWriter is what commands are encoded into: a record that is being made.
// Between two commands it refuses everything.
type commandWriter struct {
	b     []byte
	start int // where the record begins in b
	json  *json.Encoder
	busy  bool
}

var commandWriters = sync.Pool{New: func() any {
	w := new(commandWriter)
	w.json = json.NewEncoder(w)
	return w
}}

// Write appends to the record.
func (w *commandWriter) Write(p []byte) (int, error) {
	if !w.busy {
		return 0, errors.New("raft: a command wrote after its Encode had returned")
	}
	if len(p) > maxCommandBytes || len(w.b)-w.start > maxCommandBytes-len(p) {
		return 0, fmt.Errorf("%w: a command of more than %d bytes", ErrMessageTooLarge, maxCommandBytes)
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

// encodeCommand appends the command as one record whose place and checksum are
// still open. The record holds the command's value at the time of the call and
// shares no memory with it. The errors are that of the command's Encode or of
// package json as they are, *CommandPanicError and *CommandNameError; dst is
// then returned as it was.
func encodeCommand(dst []byte, kind uint16, command Command) (_ []byte, err error) {
	w := commandWriters.Get().(*commandWriter)
	w.b, w.start, w.busy = dst, len(dst), true
	err = w.encode(kind, command)
	encoded := w.b
	w.b, w.start, w.busy = nil, 0, false
	if err != nil {
		// The writer is not used again: its json.Encoder remembers errors, and a
		// panic may have left it anywhere.
		return dst, err
	}
	commandWriters.Put(w)
	wal.FinishRecord(encoded, len(dst))
	return encoded, nil
}

func (w *commandWriter) encode(kind uint16, command Command) (err error) {
	defer containPanic("Encode", &err)
	if command == nil {
		return &CommandNameError{}
	}
	name := command.CommandName()
	if name == "" || len(name) > wal.MaxRecordName {
		return &CommandNameError{Name: name}
	}
	w.b = wal.BeginRecord(w.b, kind, name)
	if encoder, ok := encoderOf(command); ok {
		return encoder.Encode(w)
	}
	return w.json.Encode(command)
}

// encoderOf returns the command as a CommandEncoder if it, or a pointer to it,
// is one: decode always has a pointer, and must find what was written.
func encoderOf(command Command) (CommandEncoder, bool) {
	if encoder, ok := command.(CommandEncoder); ok {
		return encoder, true
	}
	v := reflect.ValueOf(command)
	if v.Kind() == reflect.Pointer || !reflect.PointerTo(v.Type()).Implements(reflect.TypeFor[CommandEncoder]()) {
		return nil, false
	}
	pointer := reflect.New(v.Type())
	pointer.Elem().Set(v)
	return pointer.Interface().(CommandEncoder), true
}

// applyCommand applies the command. A panic of its Apply is the caller's to
// contain.
func applyCommand(command Command, ctx Context) (interface{}, error) {
	switch c := command.(type) {
	case CommandApply:
		return c.Apply(ctx)
	case deprecatedCommandApply:
		return c.Apply(ctx.Server())
	}
	return nil, errors.New("Command does not implement Apply()")
}
