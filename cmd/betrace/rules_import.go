package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/dsl"
)

// importFlags are the flags of rules import.
type importFlags struct{ output, name, severity, id string }

func (p *program) rulesImportCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE… [-o PACK]",
		Short: "Translate rules in BeTraceDSL, of earlier versions, into a pack",
		Long: `Translate rules in BeTraceDSL, of earlier versions of BeTrace, into one pack. A file is YAML with rules, a JSON
list of rules, or the text of one rule; - is standard input.

What cannot be translated exactly is an error with file, line and column; the other rules are written all the
same.

Exit code: 0 every rule was translated or is disabled, 2 some were not; standard error lists them with the reasons.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			return p.importRules(files, f)
		},
	}
	cmd.Flags().StringVarP(&f.output, "output", "o", "-", "`file` for the pack; an existing file is replaced")
	cmd.Flags().StringVar(&f.name, "name", "", "the pack's `name`; by default that of the first file, without its extension")
	cmd.Flags().StringVar(&f.severity, "severity", "", "the `severity` of rules that state none: critical, high, medium, low or info")
	cmd.Flags().StringVar(&f.id, "id", "", "the `ID` of a rule whose file is its text alone; by default the file's name, without its extension")
	return cmd
}

func (p *program) importRules(paths []string, f importFlags) error {
	severity := rules.Severity(strings.ToLower(f.severity))
	switch {
	case len(paths) == 0:
		return errors.New("nothing to import: name files with rules in BeTraceDSL")
	case severity != "" && !slices.Contains(rules.Severities, severity):
		return fmt.Errorf("--severity %q: want critical, high, medium, low or info", f.severity)
	case f.output != "-" && slices.ContainsFunc(paths, func(path string) bool { return sameFile(path, f.output) }):
		return fmt.Errorf("--output %s is a file that is read: name another", f.output)
	}
	files := make([]dsl.File, len(paths))
	for i, path := range paths {
		data, err := p.readFile(path)
		if err != nil {
			return fmt.Errorf("read rules: %w", err)
		}
		files[i] = dsl.File{Name: path, Data: data}
	}
	result := dsl.Import(files, dsl.Options{Rules: p.config.ruleOptions(), Severity: severity, ID: f.id})
	for _, err := range result.Errors {
		fmt.Fprintln(p.stderr, err)
	}
	for _, err := range result.Warnings {
		fmt.Fprintln(p.stderr, "warning:", err)
	}
	left := fmt.Sprintf("%d not translated, %d disabled", result.Untranslated, result.Disabled)
	if len(result.Rules) == 0 {
		return fmt.Errorf("no pack is written: %s", left)
	}
	name := f.name
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(paths[0]), filepath.Ext(paths[0]))
	}
	pack, err := result.Pack(name)
	if err != nil {
		return err
	}
	if f.output == "-" {
		_, err = p.stdout.Write(pack)
	} else {
		err = os.WriteFile(f.output, pack, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the pack: %w", err)
	}
	fmt.Fprintf(p.stderr, "%s translated, %s\n", counted(len(result.Rules), "rule"), left)
	if len(result.Errors) > 0 {
		return exitError{exitFailed}
	}
	return nil
}

// readFile reads a file, or standard input for -.
func (p *program) readFile(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(p.stdin)
	}
	return os.ReadFile(path)
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
