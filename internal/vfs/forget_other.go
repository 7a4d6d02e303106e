//go:build !linux || !(amd64 || arm64)

package vfs

import "os"

func forget(*os.File) {}
