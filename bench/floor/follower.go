package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// headerSize is the length and the sequence in front of a batch.
const headerSize = 12

// minFileSize is what every server has allocated at least, and overwrites round and
// round, unless files are to grow.
const minFileSize = 64 << 20

// disk is one server's file.
type disk struct {
	file *os.File
	size int64 // it is written round and round, unless this is 0
	at   int64
}

func newDisk(dir string, server int, size int64) (*disk, error) {
	f, err := os.Create(filepath.Join(dir, fmt.Sprint(server)))
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for range size / int64(len(zeros)) {
		if _, err := f.Write(zeros); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return &disk{file: f, size: size}, f.Sync()
}

// append writes the bytes, and returns when they are durable.
func (d *disk) append(b []byte) error {
	if d.size > 0 && d.at+int64(len(b)) > d.size {
		d.at = 0
	}
	if _, err := d.file.WriteAt(b, d.at); err != nil {
		return err
	}
	d.at += int64(len(b))
	return syscall.Fdatasync(int(d.file.Fd()))
}

// follower is another server, and the leader's connection to it.
type follower struct {
	disk   *disk
	conn   net.Conn // the leader's end
	served net.Conn // the follower's
	wait   sync.WaitGroup
}

func startFollower(dir string, server int, size int64) (*follower, error) {
	d, err := newDisk(dir, server, size)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	f := &follower{disk: d}
	if f.conn, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		return nil, err
	}
	if f.served, err = listener.Accept(); err != nil {
		return nil, err
	}
	f.wait.Go(f.serve)
	return f, nil
}

// serve stores what comes, and says so.
func (f *follower) serve() {
	in := bufio.NewReaderSize(f.served, 64<<10)
	var b []byte
	for {
		header, err := in.Peek(headerSize)
		if err != nil {
			return
		}
		size := headerSize + int(binary.LittleEndian.Uint32(header))
		if cap(b) < size {
			b = make([]byte, size)
		}
		b = b[:size]
		if _, err := io.ReadFull(in, b); err != nil {
			return
		}
		if f.disk.append(b) != nil {
			return
		}
		if _, err := f.served.Write(b[4:headerSize]); err != nil {
			return
		}
	}
}

// send is the leader's.
func (f *follower) send(frame []byte) bool {
	_, err := f.conn.Write(frame)
	return err == nil
}

// acks calls stored for every batch that the follower has.
func (f *follower) acks(stored func(sequence uint64)) {
	in := bufio.NewReader(f.conn)
	var b [8]byte
	for {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return
		}
		stored(binary.LittleEndian.Uint64(b[:]))
	}
}

func (f *follower) close() error {
	err := errors.Join(f.conn.Close(), f.served.Close())
	f.wait.Wait()
	return errors.Join(err, f.disk.file.Close())
}
