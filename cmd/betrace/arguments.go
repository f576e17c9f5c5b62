package main

import (
	"fmt"
	"os"
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
