package snapshot

// IsFile reports whether bytes begin as the file of a snapshot does.
func IsFile(b []byte) bool { return len(b) >= len(magic) && string(b[:len(magic)]) == magic }
