package snapshot

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/goraft/raft/internal/vfs"
)

// draft is a file under a temporary name: what a Writer and a Receiver have in
// common. One call at a time works on it, between begin and end; Abort may come at
// any time and from any goroutine, and is carried out by whoever is at work.
//
// The first error ends it: after a failed write or sync nothing is known about the
// file, and a full disk wants its space back.
type draft struct {
	store    *Store
	label    Label
	name     string // the temporary one
	file     vfs.File
	unsynced int64 // bytes written since the last sync
	stop     func() error

	// mu is never held across I/O.
	mu struct {
		sync.Mutex
		busy    bool
		aborted bool
		over    error // why nothing more can be done
	}
}

func (s *Store) newDraft(l Label) (*draft, error) {
	d := &draft{store: s, label: l, name: s.newTempName(l)}
	file, err := vfs.CreateFresh(s.fsys, d.name)
	if err != nil {
		return nil, noSpace(err)
	}
	d.file = file
	return d, nil
}

// begin takes the draft for one call, which ends with end.
func (d *draft) begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.over != nil {
		return d.mu.over
	}
	if d.mu.busy {
		return ErrBusy
	}
	d.mu.busy = true
	return nil
}

// end gives the draft back. An error, or an Abort that came meanwhile, is its end.
func (d *draft) end(err error) error {
	d.mu.Lock()
	d.mu.busy = false
	if err == nil && d.mu.aborted && d.mu.over == nil {
		err = ErrOver
	}
	if err != nil {
		err = noSpace(err)
		d.mu.over = err
	}
	d.mu.Unlock()
	if err != nil {
		return errors.Join(err, d.discard())
	}
	return nil
}

// refuse gives the draft back as it was before a call that asked for what cannot be.
func (d *draft) refuse(why error) error {
	if err := d.end(nil); err != nil {
		return err
	}
	return why
}

// Until has the calls that write, or read back, fail with the first error of stop,
// which they ask for between two blocks. It must be called before them.
func (d *draft) Until(stop func() error) { d.stop = stop }

// stopped says that the draft was aborted during a call, or is to be.
func (d *draft) stopped() error {
	d.mu.Lock()
	aborted := d.mu.aborted
	d.mu.Unlock()
	switch {
	case aborted:
		return ErrOver
	case d.stop != nil:
		return d.stop()
	}
	return nil
}

// Abort removes the unfinished file. If another call is under way, that call does
// it, and fails with ErrOver. What is over already stays as it is: Abort after a
// failure or after Publish does nothing, and a Publish that has come as far as
// renaming the file completes.
func (d *draft) Abort() error {
	d.mu.Lock()
	if d.mu.over != nil || d.mu.busy {
		d.mu.aborted = d.mu.over == nil
		d.mu.Unlock()
		return nil
	}
	d.mu.over = ErrOver
	d.mu.Unlock()
	return d.discard()
}

// discard closes and removes the file. What it cannot remove is swept by Open.
func (d *draft) discard() error {
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	d.file = nil
	return errors.Join(err, d.store.fsys.Remove(d.name))
}

// write puts bytes into the file, a little at a time.
func (d *draft) write(b []byte, off int64) error {
	for len(b) > 0 {
		if err := d.stopped(); err != nil {
			return err
		}
		n := min(int64(len(b)), d.store.syncEvery-d.unsynced)
		if _, err := d.file.WriteAt(b[:n], off); err != nil {
			return err
		}
		d.unsynced += n
		if d.unsynced == d.store.syncEvery {
			began := time.Now()
			if err := d.sync(); err != nil {
				return err
			}
			leaveDisk(time.Since(began))
		}
		b, off = b[n:], off+n
	}
	return nil
}

// Pauses shorter than minPause are not worth a timer. maxPause keeps a call whose
// caller waits for an answer from taking much longer on a disk that is slow anyway.
const minPause, maxPause = 100 * time.Microsecond, 20 * time.Millisecond

// leaveDisk leaves the disk to others for as long as a sync has had it.
func leaveDisk(took time.Duration) {
	if took >= minPause {
		<-time.After(min(took, maxPause)) // an Abort comes through soon enough
	}
}

func (d *draft) sync() error {
	d.unsynced = 0
	return d.file.Sync()
}

// verify reads back what was written, which must be of the draft's label and
// of the given id.
func (d *draft) verify(id uint64) (Info, error) {
	r, err := newReader(d.file, d.name)
	if err != nil {
		return Info{}, err
	}
	switch {
	case r.info.Label != d.label:
		return Info{}, corrupt(d.name, 16, "it is the snapshot %s, not %s", Name(r.info.Label), Name(d.label))
	case r.info.ID != id:
		return Info{}, corrupt(d.name, 40, "it has the id %016x, not %016x", r.info.ID, id)
	}
	return r.verify(d.stopped)
}

// publish gives a synced and verified file its final name, durably. It ends the
// draft, whatever happens.
func (d *draft) publish() error {
	err := d.file.Close()
	d.file = nil
	final := d.store.path(Name(d.label))
	if err == nil {
		err = d.store.fsys.Rename(d.name, final)
	}
	if err != nil {
		return errors.Join(err, d.store.fsys.Remove(d.name))
	}
	if err := d.store.fsys.SyncDir(d.store.dir); err != nil {
		// The name may be lost in a crash, so nobody may rely on it. If it took another
		// one's place it stays, because either is whole.
		if !d.store.has(d.label) {
			err = errors.Join(err, d.store.fsys.Remove(final))
		}
		return fmt.Errorf("snapshot: publishing %s: %w", final, err)
	}
	d.store.add(d.label)
	d.mu.Lock()
	d.mu.over = ErrOver
	d.mu.Unlock()
	return nil
}
