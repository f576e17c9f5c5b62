package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mount creates the files, and links for contents of the form "-> target", in a new folder.
func mount(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			require.NoError(t, os.Symlink(target, path))
			continue
		}
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return dir
}

func packNamed(name string) string {
	return "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: " + name + "}\nrules: [{id: r, title: t, severity: low, when: 'true'}]\n"
}

func TestEachFileOfAFolderIsReadOnceAndHiddenOnesNot(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		paths []string // paths below the folder; if none, the folder itself
		want  []string // paths of the packs that are read
		err   string
	}{
		{name: "a ConfigMap, as Kubernetes mounts it", files: map[string]string{
			"..2026_01_01_00_00_00.1/a.yaml": packNamed("a"), "..2026_01_01_00_00_00.1/sub/b.yml": packNamed("b"),
			"..data": "-> ..2026_01_01_00_00_00.1", "a.yaml": "-> ..data/a.yaml", "sub": "-> ..data/sub",
		}, want: []string{"a.yaml", "sub/b.yml"}},
		{name: "a ConfigMap within a folder", files: map[string]string{
			"team/..1/a.yaml": packNamed("a"), "team/..data": "-> ..1", "team/a.yaml": "-> ..data/a.yaml", "b.yaml": packNamed("b"),
		}, want: []string{"b.yaml", "team/a.yaml"}},
		{name: "hidden files and folders", files: map[string]string{
			".git/a.yaml": packNamed("a"), ".github/workflows/ci.yml": "on: push", ".b.yaml": packNamed("b"), "c.yaml": packNamed("c"),
		}, want: []string{"c.yaml"}},
		{name: "a hidden folder whose path is given", files: map[string]string{".rules/a.yaml": packNamed("a"), "b.yaml": packNamed("b")}, paths: []string{".rules"}, want: []string{".rules/a.yaml"}},
		{name: "a hidden file whose path is given", files: map[string]string{".a.yaml": packNamed("a")}, paths: []string{".a.yaml"}, want: []string{".a.yaml"}},
		{name: "the hidden link of a ConfigMap", files: map[string]string{"..1/a.yaml": packNamed("a"), "..data": "-> ..1"}, paths: []string{"..data"}, want: []string{"..data/a.yaml"}},
		{name: "nothing but hidden files", files: map[string]string{".git/a.yaml": packNamed("a")}, err: "/.git is hidden; to read it, give its path"},
		{name: "links that form a loop", files: map[string]string{"a.yaml": packNamed("a"), "sub/up": "-> ..", "sub/self": "-> .", "sub/b.yaml": packNamed("b")}, want: []string{"a.yaml", "sub/b.yaml"}},
		{name: "a file with two names", files: map[string]string{"a.yaml": packNamed("a"), "b.yaml": "-> a.yaml"}, want: []string{"a.yaml"}},
		{name: "a file that two paths lead to", files: map[string]string{"sub/a.yaml": packNamed("a"), "link": "-> sub"}, paths: []string{"sub/a.yaml", "link", "sub", "sub/../sub/a.yaml"}, want: []string{"sub/a.yaml"}},
		{name: "a link without a target beside a file", files: map[string]string{"a.yaml": packNamed("a"), "b.yaml": "-> gone.yaml"}, want: []string{"a.yaml"}, err: "b.yaml: no such file"},
		{name: "a link to itself", files: map[string]string{"a.yaml": packNamed("a"), "b": "-> b"}, want: []string{"a.yaml"}, err: "too many levels of symbolic links"},
		{name: "a hidden link without a target, as editors leave", files: map[string]string{"a.yaml": packNamed("a"), ".#a.yaml": "-> user@host.1"}, want: []string{"a.yaml"}},
		{name: "no pack", files: map[string]string{"README.md": ""}, err: "no .yaml or .yml file in "},
		{name: "a copy under another name", files: map[string]string{"a.yaml": packNamed("a"), "b.yaml": packNamed("a")}, want: []string{"a.yaml"}, err: `the pack "a" is also in`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := mount(t, tt.files)
			paths := []string{dir}
			if tt.paths != nil {
				paths = nil
				for _, p := range tt.paths {
					paths = append(paths, dir+"/"+p)
				}
			}
			packs, err := Load(paths, Options{})
			var have []string
			for _, p := range packs {
				have = append(have, strings.TrimPrefix(p.Path, dir+"/"))
			}
			require.Equal(t, tt.want, have)
			if tt.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.err)
		})
	}
}
