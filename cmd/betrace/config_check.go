package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

func (p *program) configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check",
		Short: "Print the effective configuration as YAML, with secrets hidden",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			if err := p.config.print(p.stdout); err != nil {
				return err
			}
			var ticks bytes.Buffer
			if err := p.config.nextTicks(&ticks, time.Now()); err != nil {
				return err
			}
			_, err := p.stdout.Write(ticks.Bytes())
			return err
		},
	}
	p.config.addFlags(check.Flags())
	group := &cobra.Command{Use: "config", Short: "Show the configuration"}
	group.AddCommand(check)
	return group
}

// print writes all settings with their help, in the form of a configuration file.
func (c *config) print(to io.Writer) error {
	tree := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range c.settings() {
		parts := strings.Split(s.key, ".")
		at := tree
		for _, part := range parts[:len(parts)-1] {
			at = child(at, part)
		}
		var node yaml.Node
		if err := node.Encode(s.printed()); err != nil {
			return fmt.Errorf("configuration: %s: %w", s.key, err)
		}
		comment := strings.ReplaceAll(s.help, "`", "")
		at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: parts[len(parts)-1], HeadComment: comment}, &node)
	}
	encoder := yaml.NewEncoder(to)
	encoder.SetIndent(2)
	if err := encoder.Encode(tree); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return encoder.Close()
}

// hidden replaces secrets in output.
const hidden = "<hidden>"

// printed returns the value of the setting for output. Secrets are replaced.
func (s *setting) printed() any {
	switch v := s.field.(type) {
	case *string:
		if s.secret && *v != "" {
			return hidden
		}
	case *[]string:
		return append([]string{}, *v...) // [], not null
	case *map[string]string:
		values := map[string]string{}
		for key, value := range *v {
			if s.secret {
				value = hidden
			}
			values[key] = value
		}
		return values
	case *time.Duration:
		return v.String()
	case *[]sweepConfig:
		return append([]sweepConfig{}, *v...)
	}
	return s.field
}

// child returns the mapping with a key of n, which it adds if it does not exist.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	m := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, m)
	return m
}
