//go:build !wasip1

package toy

func traceLine(string) {}
