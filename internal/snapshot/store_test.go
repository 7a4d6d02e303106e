package snapshot

import (
	"bytes"
	"io"
	"testing"

	"github.com/goraft/raft/internal/vfs"
)

func TestRoundTrip(t *testing.T) {
	disk := vfs.NewMem()
	s, err := Open(disk, "data/snapshot")
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(Header{Label: Label{9, 2}, ClusterID: 7, ID: 5, Meta: []byte("meta")})
	if err != nil {
		t.Fatal(err)
	}
	state := bytes.Repeat([]byte("state"), 200_000)
	if _, err := w.Write(state); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Publish(); err != nil {
		t.Fatal(err)
	}
	r, err := s.Read(Label{9, 2})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, state) {
		t.Fatal(len(got), err)
	}
}
