package raft

import "testing"

// TestLostKeepsTheGuess: a follower that was down when its leader was elected
// must not be sent the whole log when it comes back.
func TestLostKeepsTheGuess(t *testing.T) {
	p := newProgress(1000)
	p.sent(1000, 10)
	p.sent(1002, 10)
	p.sent(1002, 0)
	p.lost()
	if p.next != 1000 || !p.probing || p.bytes != 0 || !p.maySend() {
		t.Errorf("next is %d, what was under way begins at 1000 (%+v)", p.next, p)
	}
	p.lost()
	if p.next != 1000 {
		t.Errorf("next is %d after a loss with nothing under way", p.next)
	}
	p.accepted(p.sent(1001, 10), 1001)
	p.sent(1005, 10)
	p.lost()
	if p.next != 1002 {
		t.Errorf("next is %d, the follower stores up to 1001", p.next)
	}
}

// TestRefusalsOfOneMoment: what was sent before a refusal was sent on the same
// wrong guess; the answers to it say nothing new.
func TestRefusalsOfOneMoment(t *testing.T) {
	p := newProgress(11)
	first, second := p.sent(12, 10), p.sent(14, 10)
	p.refused(first, 10, 5)
	p.refused(second, 12, 2)
	if p.next != 6 {
		t.Errorf("next is %d, the first refusal gave 6", p.next)
	}
	p.refused(p.sent(8, 10), 5, 3)
	if p.next != 4 {
		t.Errorf("next is %d, a refusal of the new guess gave 4", p.next)
	}
}

// TestRefusalAlwaysGoesBack: whatever the follower says that it may share, the
// entry that it refused is not it.
func TestRefusalAlwaysGoesBack(t *testing.T) {
	for _, shared := range []uint64{9, 10, 11, 1 << 60} {
		p := newProgress(11)
		if p.refused(p.sent(10, 0), 10, shared); p.next != 10 {
			t.Errorf("next is %d after a refusal of 10 with %d", p.next, shared)
		}
	}
}

// TestAcknowledgementCoversWhatCameBefore: an answer that was lost holds no place
// in the window when a later one tells more.
func TestAcknowledgementCoversWhatCameBefore(t *testing.T) {
	p := newProgress(1)
	p.sent(5, 100)
	second := p.sent(9, 70)
	p.sent(12, 30)
	p.accepted(second, 9)
	if len(p.window) != 1 || p.bytes != 30 || p.matched != 9 || p.next != 13 {
		t.Errorf("%+v", p)
	}
}
