package blocks_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace/columnar"
)

// opens returns a function that returns the names of the files below a folder that were opened since its last
// call.
func opens(t *testing.T, dir string) func() []string {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Close(fd)) })
	folders := map[int32]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		watch, err := syscall.InotifyAddWatch(fd, path, syscall.IN_OPEN)
		folders[int32(watch)] = path
		return err
	}))
	return func() (names []string) {
		buffer := make([]byte, 64<<10)
		n, err := syscall.Read(fd, buffer)
		if err == syscall.EAGAIN {
			return nil
		}
		require.NoError(t, err)
		for at := 0; at < n; {
			event := (*syscall.InotifyEvent)(unsafe.Pointer(&buffer[at]))
			name := buffer[at+syscall.SizeofInotifyEvent : at+syscall.SizeofInotifyEvent+int(event.Len)]
			if event.Mask&syscall.IN_ISDIR == 0 {
				names = append(names, filepath.Base(folders[event.Wd])+"/"+string(name[:clen(name)]))
			}
			at += syscall.SizeofInotifyEvent + int(event.Len)
		}
		return names
	}
}

// clen returns the length of a string that ends with a zero.
func clen(b []byte) int {
	for i, c := range b {
		if c == 0 {
			return i
		}
	}
	return len(b)
}

// A tick that finds nothing new in a folder opens no file.
func TestAnIdleTickOpensNoFile(t *testing.T) {
	var folder string
	store := broken(t, func(dir string) { folder = dir })
	store.Cache(cacheBytes)
	tick := func(judged func(string) bool) {
		listing, err := store.List(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, listing.Live, 3)
		_, err = store.Times(t.Context(), listing.Live)
		require.NoError(t, err)
		_, report := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}, Listing: &listing, Judged: judged})
		require.Empty(t, report.Problems)
	}
	opened := opens(t, folder)
	tick(allBut())
	require.Contains(t, opened(), firstBlock+"/data.parquet")
	tick(allBut())
	require.Empty(t, opened())
	tick(allBut(firstBlock))
	require.Contains(t, opened(), firstBlock+"/data.parquet")
	tick(allBut())
	require.Empty(t, opened())
}
