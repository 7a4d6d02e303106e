package snapshot

import (
	"fmt"
	"sync/atomic"
)

// Receiver makes a snapshot's file from the pieces of a file of another server, one
// behind the other. After a failed write the unfinished file is gone and every
// further call returns that error; a piece that does not fit changes nothing. Its
// methods may be called from any goroutine; of two calls at once, one returns
// ErrBusy.
type Receiver struct {
	*draft
	id       uint64
	size     int64
	offset   atomic.Int64
	verified *Info // what Verify has found
}

// Receive begins a file that has a label, an id and a size, as the server that has
// it says. If there is one of that label, Publish replaces it. The Receiver must
// end with Publish or Abort.
func (s *Store) Receive(l Label, id uint64, size int64) (*Receiver, error) {
	h := Header{Label: l, ID: id}
	if err := h.check(); err != nil {
		return nil, err
	}
	if size < headerSize+endSize {
		return nil, fmt.Errorf("%w: a file of %d bytes", ErrHeader, size)
	}
	d, err := s.newDraft(l)
	if err != nil {
		return nil, err
	}
	return &Receiver{draft: d, id: id, size: size}, nil
}

// Offset is how many bytes are there: where the next piece must begin.
func (r *Receiver) Offset() int64 { return r.offset.Load() }

// Append adds a piece that begins at off. ErrOffset says that this is not where the
// last one ended, ErrTooLarge that it ends beyond the file: both change nothing.
func (r *Receiver) Append(off int64, p []byte) error {
	if err := r.begin(); err != nil {
		return err
	}
	at := r.offset.Load()
	switch {
	case off != at:
		return r.refuse(fmt.Errorf("%w: at %d, want %d", ErrOffset, off, at))
	case int64(len(p)) > r.size-at:
		return r.refuse(fmt.Errorf("%w: %d bytes at %d of a file of %d", ErrTooLarge, len(p), off, r.size))
	}
	err := r.write(p, off)
	if err == nil {
		r.offset.Store(off + int64(len(p)))
	}
	return r.end(err)
}

// Verify syncs the complete file and checks everything; its label and id must be
// those that were announced. It is what Publish does first, for a caller that wants
// to look at the header before. ErrUnfinished, which changes nothing, says that the
// file is not complete; after any other error it is gone.
func (r *Receiver) Verify() (Info, error) {
	if err := r.begin(); err != nil {
		return Info{}, err
	}
	if at := r.offset.Load(); at != r.size {
		return Info{}, r.refuse(fmt.Errorf("%w: %d of %d bytes", ErrUnfinished, at, r.size))
	}
	if err := r.end(r.check()); err != nil {
		return Info{}, err
	}
	return *r.verified, nil
}

func (r *Receiver) check() error {
	if r.verified != nil {
		return nil
	}
	if err := r.sync(); err != nil {
		return err
	}
	info, err := r.verify(r.id)
	if err == nil {
		r.verified = &info
	}
	return err
}

// Publish verifies the complete file, as Verify does, and gives it its name,
// durably.
func (r *Receiver) Publish() (Info, error) {
	info, err := r.Verify()
	if err != nil {
		return Info{}, err
	}
	if err := r.begin(); err != nil {
		return Info{}, err
	}
	if err := r.end(r.publish()); err != nil {
		return Info{}, err
	}
	return info, nil
}
