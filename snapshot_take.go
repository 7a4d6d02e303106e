package raft

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/goraft/raft/internal/snapshot"
)

// Errors of TakeSnapshot, with goraft's texts.
var (
	//lint:ignore ST1005 goraft's text
	errNoStateMachine = errors.New("Snapshot: Cannot create snapshot. Missing state machine.")
	//lint:ignore ST1005 goraft's text
	errSnapshotBusy = errors.New("Snapshot: Last snapshot is not finished.")
)

// logSize is an amount of log.
type logSize struct {
	entries uint64
	bytes   int64
}

func (s *logSize) add(bytes int) {
	s.entries++
	s.bytes += int64(bytes)
}

// reaches reports whether more than a trigger of log lies behind from; a trigger
// of zero never counts.
func (s logSize) reaches(from, trigger logSize) bool {
	return trigger.entries > 0 && s.entries-from.entries >= trigger.entries ||
		trigger.bytes > 0 && s.bytes-from.bytes >= trigger.bytes
}

// savedState is the last snapshot that was taken or restored in this run, and
// how much had been applied by then.
type savedState struct {
	index   uint64
	applied logSize
}

// share is the tenth of a trigger after which a failed snapshot is tried again. Of
// one that counts it is never nothing.
func (s logSize) share() logSize {
	return logSize{max(s.entries/10, min(s.entries, 1)), max(s.bytes/10, min(s.bytes, 1))}
}

func (s *server) TakeSnapshot() error {
	if s.stateMachine == nil {
		return errNoStateMachine
	}
	r := s.lifecycle.run.Load()
	switch {
	case r != nil && r.applier.inside.isCaller():
		return ErrReentrant
	case r == nil || s.lifecycle.state.Load() != phaseStarted:
		return StopError
	case !r.saving.CompareAndSwap(false, true):
		return errSnapshotBusy
	}
	done := make(chan error, 1)
	if !r.applier.ranges.put(committed{save: done}) {
		r.saving.Store(false)
		return StopError
	}
	select {
	case err := <-done:
		return err
	case <-r.ended:
		return StopError
	}
}

// retake has a snapshot taken although there is one of the last entry, perhaps.
func (r *run) retake() {
	if r.server.stateMachine == nil || !r.saving.CompareAndSwap(false, true) {
		return
	}
	r.applier.saved.Store(new(savedState))
	if !r.applier.ranges.put(committed{save: make(chan error, 1)}) {
		r.saving.Store(false)
	}
}

// takeIfDue takes a snapshot when enough has been applied since the last one.
func (a *applier) takeIfDue() {
	if a.home.server.stateMachine == nil || a.halt != nil || a.interrupted() {
		return
	}
	trigger := a.home.options.snapshotTrigger
	if !a.size.reaches(a.saved.Load().applied, trigger) || !a.size.reaches(a.tried, trigger.share()) {
		return
	}
	if a.home.saving.CompareAndSwap(false, true) {
		a.take(make(chan error, 1))
	}
}

// take begins a snapshot of the state as it is now, between two entries: its
// label is exactly the last entry that it includes. Writing it is a matter of a
// task; done hears how it ended. run.saving is the caller's.
func (a *applier) take(done chan error) {
	r := a.home
	label := snapshot.Label{Index: a.applied.Load(), Term: a.term}
	// What is about to be restored covers more, and may be half restored.
	if a.halt != nil || label.Index == 0 || label.Index == a.saved.Load().index || label.Index < a.jump.Load() {
		r.saving.Store(false)
		if a.halt != nil {
			done <- a.halt
			return
		}
		done <- nil // nothing new
		return
	}
	at := savedState{index: label.Index, applied: a.size}
	a.tried = a.size
	meta, err := encodeClusterState(&a.cluster, r.server.ClusterID())
	var view StateView
	if err == nil {
		view, err = a.fix()
	}
	if err != nil {
		r.saving.Store(false)
		r.snapshotFailed(err)
		done <- err
		return
	}
	header := snapshot.Header{Label: label, ClusterID: r.server.ClusterID(), ID: nonzero(r.options.seed), Meta: meta}
	// The application writes, so Stop may have to leave the task behind.
	r.applies.Go("snapshot", func() {
		info, err := r.writeSnapshot(header, view)
		r.yield("snapshot")
		if err == nil {
			a.saves(&at)
			r.snapshotError.Store(nil)
		} else {
			r.snapshotFailed(err)
		}
		r.saving.Store(false)
		if err != nil || !r.inbox.put(control(func(l *eventLoop) {
			l.keepSnapshot(keptSnapshot{info, at.applied.bytes})
			l.publish()
			done <- nil
		})) {
			done <- err
		}
	})
}

// saves takes notice of a snapshot, unless a later one was restored meanwhile.
func (a *applier) saves(now *savedState) {
	for old := a.saved.Load(); old.index < now.index && !a.saved.CompareAndSwap(old, now); {
		old = a.saved.Load()
	}
}

// fix has the state machine fix what is to be written.
func (a *applier) fix() (view StateView, err error) {
	a.exclude() // to fix a state may be to change it
	a.inside.enter(a.goroutine)
	defer a.inside.leave()
	defer containPanic("Save", &err)
	machine := a.home.server.stateMachine
	if streamer, ok := machine.(StateStreamer); ok {
		return streamer.FixState()
	}
	state, err := machine.Save()
	return savedBytes{bytes.NewReader(state)}, err
}

// savedBytes is the view of a state machine that only has Save.
type savedBytes struct{ io.WriterTo }

// Release is StateView's.
func (savedBytes) Release() {}

// writeView lets the application write its state.
func writeView(view StateView, w io.Writer) (err error) {
	defer containPanic("WriteTo", &err)
	defer view.Release()
	_, err = view.WriteTo(w)
	return err
}

// releaseView tells the application that nothing will be written.
func releaseView(view StateView) (err error) {
	defer containPanic("Release", &err)
	view.Release()
	return nil
}

// writeSnapshot writes the file and publishes it, when the log of this server is
// durable as far as the snapshot goes.
func (r *run) writeSnapshot(h snapshot.Header, view StateView) (snapshot.Info, error) {
	w, err := r.snapshots.Create(h)
	if err != nil {
		return snapshot.Info{}, errors.Join(err, releaseView(view))
	}
	w.Until(r.unlessStopped)
	if err = writeView(view, w); err == nil {
		err = w.Finish()
	}
	if err == nil && !r.flushUpTo(h.Label.Index) {
		err = StopError
	}
	if err != nil {
		return snapshot.Info{}, errors.Join(err, w.Abort())
	}
	info, err := w.Publish()
	if err != nil {
		err = errors.Join(err, w.Abort())
	}
	return info, err
}

// unlessStopped returns StopError once the server stops.
func (r *run) unlessStopped() error {
	if r.ctx.Err() != nil {
		return StopError
	}
	return nil
}

// snapshotFailed tells that there is no new snapshot: the log grows meanwhile.
func (r *run) snapshotFailed(err error) {
	if r.ctx.Err() != nil {
		return
	}
	text := err.Error()
	r.snapshotError.Store(&text)
	r.log.Error("raft: taking a snapshot", "error", err)
	r.events.dispatch(SnapshotFailedEventType, text, nil)
}

// restore puts a snapshot in the place of the state. If that fails the state
// machine may be anything: apply halts. But if a later snapshot is in force by
// now, its file may be all that is left, and restoring it makes everything good.
func (a *applier) restore(label snapshot.Label) {
	if a.halt != nil || label.Index <= a.applied.Load() || label.Index < a.jump.Load() {
		return
	}
	if err := a.recoverState(label); err != nil && label.Index == a.jump.Load() {
		a.stop(&HaltError{Index: label.Index, Command: "snapshot", Cause: err})
	}
}

// recoverState gives the snapshot's state to the state machine.
func (a *applier) recoverState(label snapshot.Label) error {
	file, err := a.home.snapshots.Read(label)
	if err != nil {
		return err
	}
	defer file.Close()
	cluster, err := decodeClusterState(file.Info().Meta)
	if err != nil {
		return err
	}
	if !a.home.server.restored.is(file.Info()) {
		a.exclude()
		a.inside.enter(a.goroutine)
		defer a.inside.leave()
		if err := recoverMachine(a.home.server.stateMachine, file); err != nil {
			return fmt.Errorf("raft: restoring the snapshot at %d: %w", label.Index, err)
		}
	}
	a.cluster, a.term, a.requeued = cluster, label.Term, true
	a.applied.Store(label.Index)
	a.tellIntents()
	a.saved.Store(&savedState{index: label.Index, applied: a.size})
	return nil
}

// recoverMachine gives a state to the state machine, if there is one.
func recoverMachine(machine StateMachine, state io.Reader) (err error) {
	if machine == nil {
		return nil
	}
	defer containPanic("Recovery", &err)
	if streamer, ok := machine.(StateStreamer); ok {
		return streamer.RecoverFrom(state)
	}
	b, err := io.ReadAll(state)
	if err != nil {
		return err
	}
	return machine.Recovery(b)
}
