// Joining is a key-value store in the order of events of goraft's raftd: the
// server starts before it listens, posts its join to the leader before it listens,
// and its command has goraft's older Apply. Its router is gorilla's, which takes
// goraft's handlers through a method of the program.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/goraft/raft"
	"github.com/gorilla/mux"
)

// store is the database.
type store struct {
	mu   sync.RWMutex
	data map[string]string
}

func (s *store) put(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[key] = value
}

func (s *store) dump() ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return json.Marshal(s.data)
}

// writeCommand stores a value under a key.
type writeCommand struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// CommandName is raft.Command's.
func (c *writeCommand) CommandName() string { return "write" }

// Apply is of the form that takes the server.
func (c *writeCommand) Apply(server raft.Server) (interface{}, error) {
	server.Context().(*store).put(c.Key, c.Value)
	return nil, nil
}

// node is a raft server with its HTTP server.
type node struct {
	name       string
	address    string
	path       string
	router     *mux.Router
	raftServer raft.Server
	db         *store
}

func main() {
	address := flag.String("address", "127.0.0.1:4001", "where to listen, and what others connect to")
	join := flag.String("join", "", "host:port of the leader to join")
	flag.Parse()
	raft.RegisterCommand(&writeCommand{})
	n := &node{address: *address, path: flag.Arg(0), router: mux.NewRouter(), db: &store{data: map[string]string{}}}
	if err := os.MkdirAll(n.path, 0o744); err != nil {
		log.Fatal(err)
	}
	n.name = ownName(n.path)
	log.Fatal(n.listenAndServe(*join))
}

// ownName is read from a file, or made and written there.
func ownName(path string) string {
	file := filepath.Join(path, "name")
	if b, err := os.ReadFile(file); err == nil {
		return string(b)
	}
	name := fmt.Sprintf("%07x", rand.Int())[0:7]
	if err := os.WriteFile(file, []byte(name), 0o644); err != nil {
		log.Fatal(err)
	}
	return name
}

// HandleFunc makes the node what raft.HTTPTransporter mounts its handlers on.
func (n *node) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	n.router.HandleFunc(pattern, handler)
}

func (n *node) connectionString() string { return "http://" + n.address }

func (n *node) listenAndServe(leader string) error {
	transporter := raft.NewHTTPTransporter("/raft", 200*time.Millisecond)
	server, err := raft.NewServer(n.name, n.path, transporter, nil, n.db, "")
	if err != nil {
		return err
	}
	n.raftServer = server
	transporter.Install(server, n)
	if err := server.Start(); err != nil {
		return err
	}
	switch {
	case leader != "":
		if !server.IsLogEmpty() {
			return errors.New("cannot join with an existing log")
		}
		if err := n.join(leader); err != nil {
			return err
		}
	case server.IsLogEmpty():
		_, err := server.Do(&raft.DefaultJoinCommand{Name: server.Name(), ConnectionString: n.connectionString()})
		if err != nil {
			return err
		}
	default:
		log.Println("recovered from log")
	}
	n.router.HandleFunc("/state", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, server.State()) })
	n.router.HandleFunc("/voters", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, voters(server)) })
	n.router.HandleFunc("/db", n.readAll).Methods("GET")
	n.router.HandleFunc("/db/{key}", n.write).Methods("POST")
	n.router.HandleFunc("/join", n.serveJoin).Methods("POST")
	return http.ListenAndServe(n.address, n.router)
}

// voters counts the members that have a vote: one that has just joined has none
// until it has caught up. goraft had no such thing, so this asks for Status.
func voters(server raft.Server) (n int) {
	for _, member := range server.Status().Members {
		if member.Voter {
			n++
		}
	}
	return n
}

// join asks the leader to take in this server. The leader answers before it can
// reach this one: nobody listens here yet.
func (n *node) join(leader string) error {
	command := &raft.DefaultJoinCommand{Name: n.raftServer.Name(), ConnectionString: n.connectionString()}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(command); err != nil {
		return err
	}
	response, err := http.Post("http://"+leader+"/join", "application/json", &b)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New("joining: " + response.Status)
	}
	return nil
}

func (n *node) serveJoin(w http.ResponseWriter, r *http.Request) {
	command := &raft.DefaultJoinCommand{}
	if err := json.NewDecoder(r.Body).Decode(command); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := n.raftServer.Do(command); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (n *node) readAll(w http.ResponseWriter, _ *http.Request) {
	b, err := n.db.dump()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(b)
}

func (n *node) write(w http.ResponseWriter, r *http.Request) {
	value, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, err = n.raftServer.Do(&writeCommand{Key: mux.Vars(r)["key"], Value: string(value)})
	switch err {
	case nil:
	case raft.NotLeaderError:
		http.Error(w, "the leader is "+n.raftServer.Leader(), http.StatusServiceUnavailable)
	default:
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}
