package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/goraft/raft"
)

// registry says where the servers of a name are. It is part of what the servers
// agree on; the command line gives the first entries.
type registry struct {
	mu   sync.RWMutex
	urls map[string]string
}

func (r *registry) url(name string) (string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	url, ok := r.urls[name]
	return url, ok
}

func (r *registry) set(name, url string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urls[name] = url
}

// transporter sends messages to names: it has goraft's four methods and knows
// nothing of the fields that a message has.
type transporter struct {
	registry *registry
	client   *http.Client
}

func newTransporter(r *registry) *transporter {
	return &transporter{registry: r, client: &http.Client{Timeout: time.Second}}
}

// message is any of raft's messages.
type message interface {
	Encode(w io.Writer) (int, error)
	Decode(r io.Reader) (int, error)
}

// send posts a message to a name and reports whether there is an answer.
func (t *transporter) send(peer *raft.Peer, path string, request, answer message) bool {
	url, ok := t.registry.url(peer.Name)
	if !ok {
		return false
	}
	var b bytes.Buffer
	if _, err := request.Encode(&b); err != nil {
		log.Println("encoding:", err)
		return false
	}
	response, err := t.client.Post(url+path, "application/protobuf", &b)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return false
	}
	_, err = answer.Decode(response.Body)
	return err == nil
}

// SendVoteRequest is raft.Transporter's.
func (t *transporter) SendVoteRequest(_ raft.Server, peer *raft.Peer, req *raft.RequestVoteRequest) *raft.RequestVoteResponse {
	if resp := new(raft.RequestVoteResponse); t.send(peer, "/vote", req, resp) {
		return resp
	}
	return nil
}

// SendAppendEntriesRequest is raft.Transporter's.
func (t *transporter) SendAppendEntriesRequest(_ raft.Server, peer *raft.Peer, req *raft.AppendEntriesRequest) *raft.AppendEntriesResponse {
	if resp := new(raft.AppendEntriesResponse); t.send(peer, "/log/append", req, resp) {
		return resp
	}
	return nil
}

// SendSnapshotRequest is raft.Transporter's.
func (t *transporter) SendSnapshotRequest(_ raft.Server, peer *raft.Peer, req *raft.SnapshotRequest) *raft.SnapshotResponse {
	if resp := new(raft.SnapshotResponse); t.send(peer, "/snapshot", req, resp) {
		return resp
	}
	return nil
}

// SendSnapshotRecoveryRequest is raft.Transporter's.
func (t *transporter) SendSnapshotRecoveryRequest(_ raft.Server, peer *raft.Peer, req *raft.SnapshotRecoveryRequest) *raft.SnapshotRecoveryResponse {
	if resp := new(raft.SnapshotRecoveryResponse); t.send(peer, "/snapshotRecovery", req, resp) {
		return resp
	}
	return nil
}

// serve decodes a request, has the server answer it, and encodes the answer.
func serve(w http.ResponseWriter, r *http.Request, request message, answer func() message) {
	if _, err := request.Decode(r.Body); err != nil {
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	response := answer()
	if response == nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	if _, err := response.Encode(w); err != nil {
		log.Println("answering:", err)
	}
}

// install mounts the other side of the transporter.
func install(server raft.Server, mux *http.ServeMux) {
	mux.HandleFunc("/vote", func(w http.ResponseWriter, r *http.Request) {
		req := new(raft.RequestVoteRequest)
		serve(w, r, req, func() message {
			if resp := server.RequestVote(req); resp != nil {
				return resp
			}
			return nil
		})
	})
	mux.HandleFunc("/log/append", func(w http.ResponseWriter, r *http.Request) {
		req := new(raft.AppendEntriesRequest)
		serve(w, r, req, func() message {
			if resp := server.AppendEntries(req); resp != nil {
				return resp
			}
			return nil
		})
	})
	mux.HandleFunc("/snapshot", func(w http.ResponseWriter, r *http.Request) {
		req := new(raft.SnapshotRequest)
		serve(w, r, req, func() message {
			if resp := server.RequestSnapshot(req); resp != nil {
				return resp
			}
			return nil
		})
	})
	mux.HandleFunc("/snapshotRecovery", func(w http.ResponseWriter, r *http.Request) {
		req := new(raft.SnapshotRecoveryRequest)
		serve(w, r, req, func() message {
			if resp := server.SnapshotRecoveryRequest(req); resp != nil {
				return resp
			}
			return nil
		})
	})
}
