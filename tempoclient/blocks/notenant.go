package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gocloud.dev/blob"
)

// indexNames are the lists of blocks that Tempo keeps in a tenant's folder.
var indexNames = []string{"index.json.gz", "index.pb.zst"}

// blockNames are objects of a block.
var blockNames = []string{"meta.json", "meta.compacted.json", "data.parquet"}

var blockID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Bounds on the search for the tenants of a storage that does not hold the tenant it was
// asked for: the folders that are looked into, the folders of each of them, the names that
// the error lists.
const (
	maxFolders    = 20
	maxSubfolders = 3
	maxNamed      = 10
)

// noTenant returns an error that names the content of the storage in place of the tenant:
// other tenants, or that of a folder above or below the right one. It sends at most
// 1 + maxFolders*(2+2*maxSubfolders) requests, usually two for each tenant.
func (l *lister) noTenant(ctx context.Context) error {
	tenant := l.tenant
	root, err := l.folderContent(ctx, "")
	if err != nil {
		return fmt.Errorf("there is no tenant %q in %s, and its tenants cannot be listed: %w", tenant, l.place(), err)
	}
	isTenant, err := l.isTenant(ctx, "", root)
	if err != nil {
		return fmt.Errorf("there is no tenant %q in %s: %w", tenant, l.place(), err)
	}
	switch {
	case root.has(blockNames):
		return fmt.Errorf("%s is the folder of one block: name %s, which holds the folders of the tenants", l.place(), l.above(2))
	case isTenant:
		return fmt.Errorf("%s is the folder of one tenant: name %s, which holds the folders of the tenants", l.place(), l.above(1))
	case len(root.folders)+len(root.files) == 0:
		return fmt.Errorf("%s is empty: Tempo stores its first block up to 30 minutes after the first spans", l.place())
	}
	var tenants, below []string
	looked := root.folders[:min(len(root.folders), maxFolders)]
	for _, folder := range looked {
		content, err := l.folderContent(ctx, folder+"/")
		if err != nil {
			return fmt.Errorf("there is no tenant %q in %s: %w", tenant, l.place(), err)
		}
		holds, err := l.isTenant(ctx, folder+"/", content)
		if err == nil && !holds {
			holds, err = l.holdsTenants(ctx, folder+"/", content)
			if holds {
				below = append(below, folder)
			}
		} else if holds {
			tenants = append(tenants, folder)
		}
		if err != nil {
			return fmt.Errorf("there is no tenant %q in %s: %w", tenant, l.place(), err)
		}
	}
	more := ""
	if unnamed := max(len(tenants)-maxNamed, 0) + len(root.folders) - len(looked); unnamed > 0 {
		more = fmt.Sprintf(" and %d more", unnamed)
		if root.more {
			more = " and more"
		}
	}
	switch {
	case len(tenants) > 0:
		return fmt.Errorf("there is no tenant %q in %s; there are: %s%s", tenant, l.place(), strings.Join(tenants[:min(len(tenants), maxNamed)], ", "), more)
	case len(below) > 0:
		for i, folder := range below {
			below[i] = l.below(folder)
		}
		return fmt.Errorf("%s holds no tenant, but folders of tenants are one level below: name %s", l.place(), strings.Join(below[:min(len(below), maxNamed)], " or "))
	}
	return fmt.Errorf("there is no tenant %q in %s, nor any other: no folder in it holds blocks of Tempo's", tenant, l.place())
}

// isTenant reports whether a folder is a tenant's: it holds an index, or blocks.
func (l *lister) isTenant(ctx context.Context, prefix string, c folderContent) (bool, error) {
	if c.has(indexNames) {
		return true, nil
	}
	i := slices.IndexFunc(c.folders, blockID.MatchString)
	if i < 0 {
		return false, nil
	}
	// A tenant's name may look like a block's.
	block, err := l.folderContent(ctx, prefix+c.folders[i]+"/")
	return block.has(blockNames), err
}

// holdsTenants reports whether a folder holds folders of tenants.
func (l *lister) holdsTenants(ctx context.Context, prefix string, c folderContent) (bool, error) {
	folders := slices.Clone(c.folders)
	if i := slices.Index(folders, l.tenant); i > 0 {
		folders[0], folders[i] = folders[i], folders[0]
	}
	for _, folder := range folders[:min(len(folders), maxSubfolders)] {
		content, err := l.folderContent(ctx, prefix+folder+"/")
		if err != nil {
			return false, err
		}
		if holds, err := l.isTenant(ctx, prefix+folder+"/", content); holds || err != nil {
			return holds, err
		}
	}
	return false, nil
}

// folderContent lists the entries of a folder, without those of its folders.
type folderContent struct {
	folders, files []string
	// more is set if there is more than was listed.
	more bool
}

func (c folderContent) has(files []string) bool {
	return slices.ContainsFunc(c.files, func(name string) bool { return slices.Contains(files, name) })
}

// maxContent is how many entries of a folder are listed: a page.
const maxContent = 1000

// folderContent lists a folder. The prefix is "", or a path that ends with a slash.
func (l *lister) folderContent(ctx context.Context, prefix string) (c folderContent, err error) {
	if l.folder != "" {
		return readFolder(filepath.Join(l.folder, filepath.FromSlash(prefix)))
	}
	err = l.retried(ctx, func() error {
		c, err = l.folderContentNow(ctx, prefix)
		return err
	})
	return c, err
}

func (l *lister) folderContentNow(ctx context.Context, prefix string) (c folderContent, err error) {
	ctx, w := l.watch(ctx)
	defer w.end()
	objects, next, err := l.bucket.ListPage(ctx, blob.FirstPageToken, maxContent, l.counted(&blob.ListOptions{Prefix: prefix, Delimiter: "/"}))
	if errors.Is(err, io.EOF) {
		return folderContent{}, nil
	}
	if err != nil {
		return folderContent{}, fmt.Errorf("blocks at %s: list %s: %w", l.url, prefix, w.why(ctx, err))
	}
	c.more = len(next) > 0
	for _, o := range objects {
		if o.IsDir {
			c.folders = append(c.folders, path.Base(o.Key))
		} else {
			c.files = append(c.files, path.Base(o.Key))
		}
	}
	return c, nil
}

// readFolder lists a folder of this machine. The bucket's own listing would walk through
// everything below it, and the wrong folder may be a large one. A folder that must not be
// read is empty.
func readFolder(folder string) (c folderContent, err error) {
	dir, err := os.Open(folder)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return folderContent{}, nil
	}
	if err != nil {
		return folderContent{}, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(maxContent)
	if err != nil && !errors.Is(err, io.EOF) {
		return folderContent{}, err
	}
	c.more = len(entries) == maxContent
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(folder, e.Name())) // follows links
		switch {
		case err != nil:
		case info.IsDir():
			c.folders = append(c.folders, e.Name())
		default:
			c.files = append(c.files, e.Name())
		}
	}
	slices.Sort(c.folders)
	return c, nil
}

// unreadable returns the folders in one of local storage that cannot be read, or an error if this is so for the folder
// itself, or for the storage. The bucket leaves such folders out of its lists without an error, as if Tempo had deleted
// them. A folder that does not exist has none.
func (s *Store) unreadable(folder string) (names []string, err error) {
	if s.folder == "" {
		return nil, nil
	}
	if _, err := os.ReadDir(s.folder); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.folder, folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if _, err := os.ReadDir(filepath.Join(s.folder, folder, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// localFolder returns the folder of a file URL.
func localFolder(fileURL string) string {
	u, err := url.Parse(fileURL)
	if err != nil {
		return ""
	}
	return filepath.Join(filepath.FromSlash(u.Path), filepath.FromSlash(u.Query().Get("prefix")))
}

// place returns the storage's name for people.
func (s *Store) place() string {
	if s.folder != "" {
		return s.folder
	}
	return s.url
}

// above and below return names of folders around that of the storage.
func (s *Store) above(levels int) string {
	if s.folder == "" {
		return "the folder " + []string{"", "above it", "two levels above it"}[levels]
	}
	folder := s.folder
	for range levels {
		folder = filepath.Dir(folder)
	}
	return folder
}

func (s *Store) below(folder string) string {
	if s.folder == "" {
		return fmt.Sprintf("it with the prefix %q", folder+"/")
	}
	return filepath.Join(s.folder, folder)
}
