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
