package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

//go:embed accepted.yaml
var acceptedTable []byte

// class is a class of mutants that the tests need not detect, with the reason.
type class struct {
	Why string `yaml:"why"`
	// Of are regular expressions. A mutant is in the class if one of them matches its printed
	// description: file, line, change and code.
	Of []string `yaml:"of"`

	patterns []*regexp.Regexp
}

// parseClasses reads classes of mutants.
func parseClasses(text []byte) ([]class, error) {
	var classes []class
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&classes); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("accepted.yaml: %w", err)
	}
	for i := range classes {
		c := &classes[i]
		if c.Why == "" || len(c.Of) == 0 {
			return nil, fmt.Errorf("accepted.yaml: class %d lacks why or of", i+1)
		}
		for _, of := range c.Of {
			p, err := regexp.Compile(of)
			if err != nil {
				return nil, fmt.Errorf("accepted.yaml: %s: %w", c.Why, err)
			}
			c.patterns = append(c.patterns, p)
		}
	}
	return classes, nil
}

// accept sets the reason of the mutations that need not be detected. It returns the patterns that match
// no mutation.
func accept(classes []class, list []mutation) (unused []string) {
	for _, c := range classes {
		for k, p := range c.patterns {
			found := false
			for i := range list {
				m := &list[i]
				if !p.MatchString(m.File + ": " + m.Why) {
					continue
				}
				found = true
				if m.Accepted == "" {
					m.Accepted = c.Why
				}
			}
			if !found {
				unused = append(unused, c.Of[k])
			}
		}
	}
	return unused
}

// showAccepted prints the number of accepted surviving mutations in each class.
func showAccepted(w io.Writer, s *schemata) {
	count := map[string]int{}
	var order []string
	for i, v := range s.verdicts {
		if v != accepted {
			continue
		}
		why := s.list[i].Accepted
		if count[why] == 0 {
			order = append(order, why)
		}
		count[why]++
	}
	slices.SortStableFunc(order, func(a, b string) int { return count[b] - count[a] })
	for _, why := range order {
		fmt.Fprintf(w, "accepted %5d: %s\n", count[why], why)
	}
}
