package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// splitNames returns the names in the values of a repeatable flag. A value that is the
// name of an existing file or folder is one name, also with commas in it; any other
// value is a list of names, separated by commas.
func splitNames(values []string) []string {
	var names []string
	for _, value := range values {
		if _, err := os.Lstat(value); err == nil {
			names = append(names, value)
			continue
		}
		names = append(names, strings.Split(value, ",")...)
	}
	return names
}

// noArguments refuses arguments that belong to no flag; the remedy names the flags.
func noArguments(remedy string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unexpected argument %q: %s", args[0], remedy)
		}
		return nil
	}
}

// walkFolder calls visit for the files in a folder and in the folders below it, in
// lexical order, without hidden ones. Links to files are followed. Everything else
// that is not read is a problem.
func walkFolder(ctx context.Context, folder string, visit func(file string), problem func(what string, err error)) {
	// The folder may itself be a link, which filepath.WalkDir would not follow.
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, entry fs.DirEntry, err error) error {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		file := filepath.Join(folder, filepath.FromSlash(path))
		switch {
		case err != nil:
			problem("folder "+file, err)
			return nil
		case path != "." && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return nil
		}
		info, err := os.Stat(file)
		switch {
		case err != nil:
			problem("file "+file, err)
		case info.IsDir():
			problem("folder "+file, errors.New("links to folders are not followed: name it with --traces"))
		case !info.Mode().IsRegular():
			problem("file "+file, fmt.Errorf("it is no regular file (%s): name it with --traces to read it", info.Mode().Type()))
		default:
			visit(file)
		}
		return nil
	})
	if err != nil {
		problem("folder "+folder, err)
	}
}
