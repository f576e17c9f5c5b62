package rules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// packFiles returns path if it is a file, otherwise the .yaml and .yml files in the folder and its
// subfolders. It follows links and reads each folder once, so that loops end. It omits files and folders
// whose names begin with a dot, because Kubernetes mounts a ConfigMap as links into a hidden folder; path
// itself may be hidden. After an error the other files are still returned.
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
	folders map[string]bool // folders already read, by resolved path
	hidden  string          // the first file or folder that was omitted
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
		info, err := os.Stat(path) // describes the target if it is a link
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

// resolve returns the absolute path without links, which is the same for all paths to a file.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(resolved)
}
