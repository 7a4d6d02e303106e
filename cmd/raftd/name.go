package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	nameFile  = "name"
	nameBytes = 8 // drawn for a name
	dirMode   = 0o700
	fileMode  = 0o600
)

// nameIn returns the name of the server whose directory it is. The first time it
// draws one and makes it durable, because a server that came back under another
// name would be another server.
func nameIn(dir string) (string, error) {
	path := filepath.Join(dir, nameFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return drawName(path)
	}
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(text))
	if name == "" {
		return "", fmt.Errorf("raftd: %s is empty", path)
	}
	return name, nil
}

func drawName(path string) (string, error) {
	random := make([]byte, nameBytes)
	_, _ = rand.Read(random) // never fails
	name := hex.EncodeToString(random)
	temporary := path + ".tmp"
	if err := writeDurably(temporary, name+"\n"); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", err
	}
	return name, syncDir(filepath.Dir(path))
}

func writeDurably(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
