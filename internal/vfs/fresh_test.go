package vfs

import (
	"os"
	"testing"
)

// Row 101: a fresh file has nothing of one that was left under its name, in a store
// that a crash or a failure has cut short.
func TestFault101_FreshFileHasNothingOfBefore(t *testing.T) {
	for name, fsys := range map[string]FS{"memory": NewMem(), "system": OS()} {
		t.Run(name, func(t *testing.T) {
			dir := "/d"
			if name == "system" {
				dir = t.TempDir()
			} else if err := fsys.Mkdir(dir, DirPerm); err != nil {
				t.Fatal(err)
			}
			file := dir + "/f"
			left, err := fsys.OpenFile(file+TempSuffix, os.O_RDWR|os.O_CREATE, FilePerm)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := left.WriteAt([]byte("much that was never finished"), 0); err != nil {
				t.Fatal(err)
			}
			if err := left.Close(); err != nil {
				t.Fatal(err)
			}
			if err := WriteFile(fsys, file, []byte("new")); err != nil {
				t.Fatal(err)
			}
			f, err := fsys.OpenFile(file, os.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if size, err := f.Size(); err != nil || size != 3 {
				t.Errorf("%d bytes, %v, want 3", size, err)
			}
		})
	}
}
