package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
)

// addressError says that a directory belongs to a server at another address,
// where the other servers look for it.
type addressError struct {
	dir, known, given string
}

// Error tells both addresses.
func (e *addressError) Error() string {
	return fmt.Sprintf("raftd: %s is of the server at %s, not %s: give the same ports, or another directory", e.dir, e.known, e.given)
}

// openThree opens one node for each port, in a directory of its own below dir,
// that are to be one cluster. Their names are 1, 2, 3 and so on.
func openThree(c config, ports []int) (nodes []*node, err error) {
	dir := c.dir
	for i, port := range ports {
		c.name = strconv.Itoa(i + 1)
		c.dir, c.port = filepath.Join(dir, c.name), port
		n, err := openNode(c)
		if err != nil {
			return nil, errors.Join(err, stopAll(nodes))
		}
		nodes = append(nodes, n)
		if known := addressOf(n.server.Status(), n.name); known != "" && known != n.address {
			return nil, errors.Join(&addressError{c.dir, known, n.address}, stopAll(nodes))
		}
	}
	return nodes, nil
}

// startThree starts the nodes of one cluster. The unused ones learn the initial
// configuration; they become a cluster when enterThree has returned.
func startThree(nodes []*node) error {
	for _, n := range nodes {
		if !n.unused() {
			continue
		}
		for _, other := range nodes {
			if err := n.server.AddPeer(other.name, other.address); err != nil {
				return err
			}
		}
	}
	for _, n := range nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	return nil
}

// enterThree makes a cluster of started nodes. If none was used before, the
// first begins it. Where some were, one that was not has lost its directory, and
// asks the others to take it in again.
func enterThree(ctx context.Context, nodes, unused []*node) error {
	if len(unused) == len(nodes) {
		return nodes[0].begin(ctx)
	}
	entered := make(chan error, len(unused))
	for _, n := range unused {
		var others []string
		for _, other := range nodes {
			if !slices.Contains(unused, other) {
				others = append(others, other.address)
			}
		}
		go func() { entered <- n.join(ctx, others, n.server.IsLogEmpty) }()
	}
	var errs []error
	for range unused {
		errs = append(errs, <-entered)
	}
	return errors.Join(errs...)
}
