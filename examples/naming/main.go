// Naming is a key-value store with a transporter of its own, in the manner of etcd
// 0.4: servers are known by names, connection strings are empty, and members come
// and go by commands of the program, whose Apply calls AddPeer and RemovePeer.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/goraft/raft"
)

// peerServer is one server, and what all agree on.
type peerServer struct {
	name       string
	url        string
	raftServer raft.Server
	registry   *registry
	mu         sync.RWMutex
	data       map[string]string
	lastAnswer time.Duration // of a peer, from the heartbeat events
	removed    chan struct{}
}

// joinCommand adds a server, and says where it is.
type joinCommand struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// CommandName is raft.Command's.
func (c *joinCommand) CommandName() string { return "naming:join" }

// NodeName is the server's name.
func (c *joinCommand) NodeName() string { return c.Name }

// Apply registers the server and makes it a member.
func (c *joinCommand) Apply(context raft.Context) (interface{}, error) {
	ps := context.Server().Context().(*peerServer)
	if url, ok := ps.registry.url(c.Name); ok && url == c.URL && c.Name != context.Server().Name() {
		if _, member := context.Server().Peers()[c.Name]; member {
			return context.CommitIndex(), nil // from a life that is over
		}
	}
	ps.registry.set(c.Name, c.URL)
	return context.CommitIndex(), context.Server().AddPeer(c.Name, "")
}

// removeCommand removes a server.
type removeCommand struct {
	Name string `json:"name"`
}

// CommandName is raft.Command's.
func (c *removeCommand) CommandName() string { return "naming:remove" }

// Apply removes the server. Where it is is still needed: it has to hear of this.
func (c *removeCommand) Apply(context raft.Context) (interface{}, error) {
	return context.CommitIndex(), context.Server().RemovePeer(c.Name)
}

// setCommand stores a value under a key.
type setCommand struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// CommandName is raft.Command's.
func (c *setCommand) CommandName() string { return "naming:set" }

// Apply stores the value.
func (c *setCommand) Apply(context raft.Context) (interface{}, error) {
	ps := context.Server().Context().(*peerServer)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.data[c.Key] = c.Value
	return nil, nil
}

func main() {
	name := flag.String("name", "", "the server's name")
	address := flag.String("address", "127.0.0.1:7001", "where to listen")
	cluster := flag.String("cluster", "", "host:port of servers of the cluster to join, with commas between")
	flag.Parse()
	raft.RegisterCommand(&joinCommand{})
	raft.RegisterCommand(&removeCommand{})
	raft.RegisterCommand(&setCommand{})
	ps := &peerServer{
		name: *name, url: "http://" + *address, data: map[string]string{}, removed: make(chan struct{}),
		registry: &registry{urls: map[string]string{}},
	}
	ps.registry.set(ps.name, ps.url)
	server, err := raft.NewServer(ps.name, flag.Arg(0), newTransporter(ps.registry), nil, ps, "")
	if err != nil {
		log.Fatal(err)
	}
	ps.raftServer = server
	server.SetElectionTimeout(200 * time.Millisecond)
	server.SetHeartbeatInterval(50 * time.Millisecond)
	ps.listen()
	if err := server.Init(); err != nil {
		log.Fatal(err)
	}
	log.Printf("knows of %d peers, commit index %d", len(server.Peers()), server.CommitIndex())
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	install(server, mux)
	ps.routes(mux)
	go func() { log.Fatal(http.ListenAndServe(*address, mux)) }()
	if server.IsLogEmpty() {
		ps.joinCluster(*cluster)
	}
	<-ps.removed
	server.Stop()
	log.Println("removed from the cluster")
}

// listen hears of peers' answers and of removals; who is removed stops, by a
// goroutine of the listener's.
func (ps *peerServer) listen() {
	ps.raftServer.AddEventListener(raft.HeartbeatEventType, func(e raft.Event) {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		ps.lastAnswer = e.Value().(time.Duration)
	})
	var once sync.Once
	ps.raftServer.AddEventListener(raft.RemovePeerEventType, func(e raft.Event) {
		if e.Value().(string) == ps.name {
			go func() {
				ps.raftServer.Stop()
				once.Do(func() { close(ps.removed) })
			}()
		}
	})
}

// joinCluster asks the servers of a cluster to be taken in, or begins one.
func (ps *peerServer) joinCluster(cluster string) {
	join := &joinCommand{Name: ps.name, URL: ps.url}
	if cluster == "" {
		if _, err := ps.raftServer.Do(join); err != nil {
			log.Fatal("beginning a cluster: ", err)
		}
		return
	}
	body, err := json.Marshal(join)
	if err != nil {
		log.Fatal(err)
	}
	for {
		for _, address := range strings.Split(cluster, ",") {
			response, err := http.Post("http://"+address+"/join", "application/json", bytes.NewReader(body))
			if err != nil {
				continue
			}
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (ps *peerServer) routes(mux *http.ServeMux) {
	mux.HandleFunc("/state", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, ps.raftServer.State()) })
	mux.HandleFunc("/voters", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, voters(ps.raftServer)) })
	mux.HandleFunc("/join", func(w http.ResponseWriter, r *http.Request) {
		command := new(joinCommand)
		err := json.NewDecoder(r.Body).Decode(command)
		ps.answer(w, command, err)
	})
	mux.HandleFunc("/remove/{name}", func(w http.ResponseWriter, r *http.Request) {
		ps.answer(w, &removeCommand{Name: r.PathValue("name")}, nil)
	})
	mux.HandleFunc("POST /db/{key}", func(w http.ResponseWriter, r *http.Request) {
		value, err := io.ReadAll(r.Body)
		ps.answer(w, &setCommand{Key: r.PathValue("key"), Value: string(value)}, err)
	})
	mux.HandleFunc("GET /db", func(w http.ResponseWriter, _ *http.Request) {
		ps.mu.RLock()
		defer ps.mu.RUnlock()
		_ = json.NewEncoder(w).Encode(ps.data)
	})
	mux.HandleFunc("/peers", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(ps.raftServer.Peers())
	})
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

// answer carries out a command for a client.
func (ps *peerServer) answer(w http.ResponseWriter, command raft.Command, err error) {
	if err == nil {
		_, err = ps.raftServer.Do(command)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}
