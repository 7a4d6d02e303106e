package snapshot

// Writer makes a snapshot's file from a state: Write it, Finish, Publish. After an
// error the unfinished file is gone and every further call returns that error. One
// goroutine at a time may use it, but any may call Abort.
type Writer struct {
	*draft
	id       uint64
	seed     uint32
	block    []byte // the header of the next block and what of its data is there
	off      int64  // where it goes
	totals   totals
	finished bool
}

// Create begins a snapshot's file. If there is one of that label, Publish replaces
// it. The Writer must end with Publish or Abort.
func (s *Store) Create(h Header) (*Writer, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	d, err := s.newDraft(h.Label)
	if err != nil {
		return nil, err
	}
	w := &Writer{draft: d, id: h.ID, block: make([]byte, blockHeaderSize, blockHeaderSize+int(s.blockSize))}
	if err := w.begin(); err != nil {
		return nil, err
	}
	b, seed := encodeHeader(&h, s.blockSize)
	w.seed, w.off = seed, int64(len(b))
	if err := w.end(w.write(b, 0)); err != nil {
		return nil, err
	}
	return w, nil
}

// Write appends to the state.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.begin(); err != nil {
		return 0, err
	}
	if w.finished {
		return 0, w.refuse(ErrOver)
	}
	n := 0
	for n < len(p) {
		k := min(len(p)-n, cap(w.block)-len(w.block))
		w.block = append(w.block, p[n:n+k]...)
		n += k
		if len(w.block) == cap(w.block) {
			if err := w.flush(); err != nil {
				return n, w.end(err)
			}
		}
	}
	return n, w.end(nil)
}

// flush writes the block.
func (w *Writer) flush() error {
	sum := sealBlock(w.block, w.seed, w.totals.blocks)
	if err := w.write(w.block, w.off); err != nil {
		return err
	}
	w.totals.add(len(w.block)-blockHeaderSize, sum)
	w.off += int64(len(w.block))
	w.block = w.block[:blockHeaderSize]
	return nil
}

// Finish writes what is left and syncs: all of the file is durable, still under its
// temporary name, where a restart does not look for it.
func (w *Writer) Finish() error {
	if err := w.begin(); err != nil {
		return err
	}
	if w.finished {
		return w.end(nil)
	}
	return w.end(w.finish())
}

func (w *Writer) finish() error {
	if len(w.block) > blockHeaderSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	b := w.totals.end(w.seed)
	if err := w.write(b, w.off); err != nil {
		return err
	}
	if err := w.sync(); err != nil {
		return err
	}
	w.off += int64(len(b))
	w.block, w.finished = nil, true
	return nil
}

// Publish reads the finished file back, verifies it and gives it its name, durably.
// ErrUnfinished, which changes nothing, says that Finish has not been called.
func (w *Writer) Publish() (Info, error) {
	if err := w.begin(); err != nil {
		return Info{}, err
	}
	if !w.finished {
		return Info{}, w.refuse(ErrUnfinished)
	}
	info, err := w.verify(w.id)
	if err == nil {
		err = w.publish()
	}
	if err := w.end(err); err != nil {
		return Info{}, err
	}
	return info, nil
}
