package raft

import "testing"

// TestPromotionNeverUnbinds: a transport that does not tell stores is no reason
// to forget the one that a name is bound to.
func TestPromotionNeverUnbinds(t *testing.T) {
	c := newConfiguration(1, []member{{name: "a", storeID: 1, voter: true}, {name: "b", storeID: 2}})
	promoted, err := c.promote("b", 0)
	if err != nil {
		t.Fatal(err)
	}
	if m := promoted.find("b"); !m.voter || m.storeID != 2 {
		t.Errorf("promoted as %+v", *m)
	}
}
