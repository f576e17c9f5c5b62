package rules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// packFiles returns path if it is a file, and the .yaml and .yml files of a folder and of
// the folders below it. Links are followed; a folder is read once, so that loops end. Files
// and folders whose names begin with a dot are left out, unless path itself is one: a
// ConfigMap is mounted by Kubernetes as links into a hidden folder. An error does not keep
// the other files from being returned.
func packFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("rule packs: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	w := packWalk{folders: map[string]bool{}}
	if err := w.walk(path); err != nil {
		return w.files, fmt.Errorf("rule packs in %s: %w", path, err)
	}
	switch {
	case len(w.files) == 0 && w.hidden != "":
		return nil, fmt.Errorf("rule packs: no .yaml or .yml file in %s: %s is hidden; to read it, give its path", path, w.hidden)
	case len(w.files) == 0:
		return nil, fmt.Errorf("rule packs: no .yaml or .yml file in %s", path)
	}
	return w.files, nil
}

// packWalk collects the files of packs below a folder.
type packWalk struct {
	files   []string
	folders map[string]bool // that were read, by resolved path
	hidden  string          // the first file or folder that was left out
}

func (w *packWalk) walk(folder string) error {
	resolved, err := resolve(folder)
	if err != nil || w.folders[resolved] {
		return err
	}
	w.folders[resolved] = true
	entries, err := os.ReadDir(folder)
	errs := []error{err}
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") {
			if w.hidden == "" {
				w.hidden = path
			}
			continue
		}
		info, err := os.Stat(path) // of the target if it is a link
		switch {
		case err != nil:
			errs = append(errs, err)
		case info.IsDir():
			errs = append(errs, w.walk(path))
		case hasPackExtension(path):
			w.files = append(w.files, path)
		}
	}
	return errors.Join(errs...)
}

func hasPackExtension(path string) bool {
	ext := filepath.Ext(path)
	return ext == ".yaml" || ext == ".yml"
}

// resolve returns the absolute path without links, which is the same however a file was
// reached.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(resolved)
}
