package jetstream

import "syscall"

// freeBytes returns how much the file system of the directory has left for this process, if that can be known.
func freeBytes(dir string) (free int64, known bool) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, false
	}
	return int64(fs.Bavail) * int64(fs.Bsize), true
}
