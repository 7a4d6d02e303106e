package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/goraft/raft"
)

// storeFormat is the version of what Save writes, its first byte.
const storeFormat = 1

// errStoreFormat says that a saved state is not one, or is of another version.
var errStoreFormat = errors.New("raftd: not a saved state of this version")

// store is the replicated state: values by key. Only commands change it; a value
// is never changed once it is in, so readers need no copy.
type store struct {
	mu     sync.RWMutex
	values map[string][]byte
}

func newStore() *store { return &store{values: map[string][]byte{}} }

// get returns the key's value and whether there is one. The value must not be
// changed.
func (s *store) get(key string) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	value, ok := s.values[key]
	return value, ok
}

// ReadsConcurrently is raft.ConcurrentReader's: the mutex is there for that.
func (s *store) ReadsConcurrently() {}

func (s *store) set(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
}

// delete reports whether there was a value.
func (s *store) delete(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.values[key]
	delete(s.values, key)
	return ok
}

// Save is StateMachine's: what FixState's view writes, in one piece.
func (s *store) Save() ([]byte, error) {
	view, err := s.FixState()
	if err != nil {
		return nil, err
	}
	defer view.Release()
	var state bytes.Buffer
	_, err = view.WriteTo(&state)
	return state.Bytes(), err
}

// Recovery is StateMachine's, for what Save returned.
func (s *store) Recovery(state []byte) error { return s.RecoverFrom(bytes.NewReader(state)) }

// FixState is StateStreamer's. A view costs a copy of the map, not of the values,
// which never change.
func (s *store) FixState() (raft.StateView, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &storeView{values: maps.Clone(s.values)}, nil
}

// storeView is the values as they were at one moment.
type storeView struct {
	values  map[string][]byte
	written int64
}

// WriteTo writes the version, the number of keys, then each key and value after
// its length, in the order of the keys, so that the same state is the same bytes
// on every server.
func (v *storeView) WriteTo(to io.Writer) (int64, error) {
	w := bufio.NewWriter(io.MultiWriter(to, v))
	header := binary.AppendUvarint([]byte{storeFormat}, uint64(len(v.values)))
	_, err := w.Write(header)
	for _, key := range slices.Sorted(maps.Keys(v.values)) {
		if err == nil {
			err = writeString(w, key)
		}
		if err == nil {
			err = writeString(w, v.values[key])
		}
	}
	if err == nil {
		err = w.Flush()
	}
	return v.written, err
}

// Write counts.
func (v *storeView) Write(p []byte) (int, error) {
	v.written += int64(len(p))
	return len(p), nil
}

// Release is StateView's.
func (v *storeView) Release() { v.values = nil }

// RecoverFrom replaces the state by one that a view wrote. It changes nothing if
// that is damaged.
func (s *store) RecoverFrom(state io.Reader) error {
	r := bufio.NewReader(state)
	format, err := r.ReadByte()
	if err != nil || format != storeFormat {
		return errors.Join(errStoreFormat, err)
	}
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return errors.Join(errStoreFormat, err)
	}
	values := map[string][]byte{}
	for range count {
		key, err := readString(r)
		if err != nil {
			return err
		}
		value, err := readString(r)
		if err != nil {
			return err
		}
		values[string(key)] = value
	}
	if _, err := r.ReadByte(); err != io.EOF || uint64(len(values)) != count {
		return errors.Join(errStoreFormat, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = values
	return nil
}

// writeString writes the text after its length.
func writeString[T string | []byte](w *bufio.Writer, text T) error {
	if _, err := w.Write(binary.AppendUvarint(w.AvailableBuffer(), uint64(len(text)))); err != nil {
		return err
	}
	_, err := w.Write([]byte(text))
	return err
}

// readString reads what writeString wrote. What it allocates is in proportion to
// what there is to read.
func readString(r *bufio.Reader) ([]byte, error) {
	length, err := binary.ReadUvarint(r)
	if err != nil || length > math.MaxInt32 {
		return nil, errors.Join(errStoreFormat, err)
	}
	var text bytes.Buffer
	if n, err := io.CopyN(&text, r, int64(length)); err != nil {
		return nil, fmt.Errorf("%w: %d bytes where %d should follow: %w", errStoreFormat, n, length, err)
	}
	return text.Bytes(), nil
}
