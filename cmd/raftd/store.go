package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
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

// Save returns the whole state: the version, the number of keys, then each key
// and value after its length, in the order of the keys, so that the same state
// is the same bytes on every server.
func (s *store) Save() ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	size := 1 + binary.MaxVarintLen64
	for key, value := range s.values {
		size += 2*binary.MaxVarintLen64 + len(key) + len(value)
	}
	state := append(make([]byte, 0, size), storeFormat)
	state = binary.AppendUvarint(state, uint64(len(s.values)))
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		state = appendString(state, key)
		state = appendString(state, s.values[key])
	}
	return state, nil
}

// Recovery replaces the state by one that Save returned. It changes nothing if
// that is damaged.
func (s *store) Recovery(state []byte) error {
	if len(state) == 0 || state[0] != storeFormat {
		return errStoreFormat
	}
	count, rest, err := cutUvarint(state[1:])
	if err != nil {
		return err
	}
	values := map[string][]byte{}
	for range count {
		var key, value []byte
		if key, rest, err = cutString(rest); err != nil {
			return err
		}
		if value, rest, err = cutString(rest); err != nil {
			return err
		}
		values[string(key)] = bytes.Clone(value)
	}
	if len(rest) != 0 || uint64(len(values)) != count {
		return errStoreFormat
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = values
	return nil
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
		return nil, nil, fmt.Errorf("%w: %d bytes where %d should follow", errStoreFormat, len(rest), length)
	}
	return rest[:length], rest[length:], nil
}

func cutUvarint(b []byte) (n uint64, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, fmt.Errorf("%w: a length is cut short", errStoreFormat)
	}
	return n, b[size:], nil
}
