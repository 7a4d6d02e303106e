package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// machine says on what the figures were taken.
func machine(ctx context.Context, root, data string) ([]string, error) {
	typical, slow, err := probe(filepath.Join(data, "probe"))
	if err != nil {
		return nil, err
	}
	return []string{
		fmt.Sprintf("%d cores (%s), load average %s before", runtime.NumCPU(), processor(), firstField("/proc/loadavg")),
		fmt.Sprintf("Linux %s, %s", firstField("/proc/sys/kernel/osrelease"), filesystem(data)),
		fmt.Sprintf("fdatasync of 4 KiB in an allocated file: median %s, p99 %s", short(float64(typical)), short(float64(slow))),
		fmt.Sprintf("%s, source %s, %s", runtime.Version(), revision(ctx, root), time.Now().UTC().Format("2006-01-02 15:04 UTC")),
	}, nil
}

// firstField is the first word of a file, or a question mark.
func firstField(file string) string {
	text, _ := os.ReadFile(file)
	if fields := strings.Fields(string(text)); len(fields) > 0 {
		return fields[0]
	}
	return "?"
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// filesystem is the type of the one that the directory lies on: of all mounts
// above it, the lowest.
func filesystem(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "?"
	}
	text, _ := os.ReadFile("/proc/self/mounts")
	name, longest := "?", -1
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		point := strings.TrimSuffix(fields[1], "/")
		if (dir == point || strings.HasPrefix(dir, point+"/")) && len(point) >= longest {
			name, longest = fields[2], len(point)
		}
	}
	return name
}

func revision(ctx context.Context, root string) string {
	out, err := exec.CommandContext(ctx, "git", "-C", root, "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

const (
	probes    = 300
	probeSize = 4 << 10
)

// probe looks at what the disk takes to make one write durable.
func probe(name string) (typical, slow time.Duration, err error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	if _, err := f.Write(make([]byte, probes*probeSize)); err != nil {
		return 0, 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, 0, err
	}
	took := make([]time.Duration, probes)
	content := slices.Repeat([]byte{1}, probeSize)
	for i := range took {
		began := time.Now()
		if _, err := f.WriteAt(content, int64(i)*probeSize); err != nil {
			return 0, 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[probes/2], took[probes*99/100], nil
}
