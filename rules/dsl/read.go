package dsl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yaml parses a YAML file with one document.
func (s *source) yaml(data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if err == nil {
		if err = decoder.Decode(&second); err == nil {
			return nil, s.errorf(&second, "a second YAML document: split the file")
		}
	}
	if !errors.Is(err, io.EOF) {
		line := 1
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
			line, _ = strconv.Atoi(m[1]) // digits only
		}
		return nil, s.errorf(&yaml.Node{Line: line}, "bad YAML: %s", yamlLine.ReplaceAllString(err.Error(), ""))
	}
	if len(document.Content) == 0 {
		return nil, s.errorf(&yaml.Node{}, "the file is empty: write rules in YAML")
	}
	return document.Content[0], nil
}

// json parses a JSON file. A YAML parser would refuse tabs and surrogate pairs.
func (s *source) json(data []byte) (*yaml.Node, error) {
	r := &jsonReader{data: data, decoder: json.NewDecoder(bytes.NewReader(data)), line: 1, column: 1}
	r.decoder.UseNumber()
	root, err := r.value(0)
	if err == nil {
		if _, err = r.decoder.Token(); errors.Is(err, io.EOF) {
			return root, nil
		}
		if err == nil {
			err = errors.New("unexpected data after the list of rules")
		}
	}
	return nil, s.errorf(r.node(yaml.ScalarNode, ""), "bad JSON: %w", err)
}

type jsonReader struct {
	data    []byte
	decoder *json.Decoder
	// at is the offset of line and column, which only increase.
	at, line, column int
}

// node parses the next value into a node.
func (r *jsonReader) node(kind yaml.Kind, tag string) *yaml.Node {
	offset := int(r.decoder.InputOffset())
	for offset < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[offset]) >= 0 {
		offset++
	}
	for r.at < offset {
		c, size := utf8.DecodeRune(r.data[r.at:])
		r.at += size
		r.column++
		if c == '\n' {
			r.line, r.column = r.line+1, 1
		}
	}
	return &yaml.Node{Kind: kind, Tag: tag, Line: r.line, Column: r.column}
}

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("over %d nested lists and objects", maxNesting)
	}
	n := r.node(yaml.ScalarNode, "!!str")
	token, err := r.decoder.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch v := token.(type) {
	case nil:
		n.Tag, n.Value = "!!null", "null"
	case string:
		n.Value, n.Style = v, yaml.DoubleQuotedStyle
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(v)
	case json.Number:
		n.Tag, n.Value = "!!int", v.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if v == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for r.decoder.More() {
			c, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		if _, err := r.decoder.Token(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return n, nil
}
