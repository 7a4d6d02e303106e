package raft_test

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/goraft/raft"
)

// paint is a command: every server applies it, in the same order.
type paint struct{ Thing, Colour string }

func (p *paint) CommandName() string { return "paint" }
func (p *paint) Apply(c raft.Context) (interface{}, error) {
	colours := c.Server().Context().(map[string]string)
	before := colours[p.Thing]
	colours[p.Thing] = p.Colour
	return before, nil
}

func Example() {
	raft.RegisterCommand(&paint{})
	dir, err := os.MkdirTemp("", "raft")
	check(err)
	defer os.RemoveAll(dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	address := "http://" + listener.Addr().String()
	transporter := raft.NewHTTPTransporter("/raft", time.Second)
	server, err := raft.NewServer("n1", dir, transporter, nil, map[string]string{}, address)
	check(err)
	go http.Serve(listener, transporter.Handler(server))
	check(server.Start())
	defer server.Stop()
	_, err = server.Do(&raft.DefaultJoinCommand{Name: "n1", ConnectionString: address})
	check(err) // n1 has begun a cluster; the same Do with another name takes that server in
	_, err = server.Do(&paint{"door", "green"})
	check(err)
	before, err := server.Do(&paint{"door", "red"})
	check(err)
	fmt.Println("the door was", before)
	// Output: the door was green
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
