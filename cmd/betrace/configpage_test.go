package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// configPage has the reference of all settings.
const configPage = "../../docs/configuration.md"

func TestConfigurationPageIsUpToDate(t *testing.T) {
	const begin, end = "<!-- generated from the settings: go generate ./cmd/betrace -->\n", "<!-- end of the generated part -->\n"
	have, err := os.ReadFile(configPage)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(have), begin)
	_, after, ok2 := strings.Cut(rest, end)
	require.True(t, ok && ok2, "%s has no place for the settings", configPage)
	want := before + begin + settingTables(t) + end + after
	if *update {
		require.NoError(t, os.WriteFile(configPage, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(have), "run go generate ./cmd/betrace")
}

// settingTables returns a table for each group of settings, which is the first part of their keys. Settings without a
// group are in the first table.
func settingTables(t *testing.T) string {
	c, sweep := newConfig(), newSweep()
	const general = "general"
	groups := []string{general}
	rows := map[string][]string{}
	for _, s := range c.settings() {
		group, _, hasGroup := strings.Cut(s.key, ".")
		if !hasGroup {
			group = general
		}
		if !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
		flag := ""
		if s.flag != "" {
			flag = "`--" + s.flag + "`"
		}
		rows[group] = append(rows[group], fmt.Sprintf("| `%s` | %s | %s | %s | `%s` | %s |\n", s.key, s.typeName(t), s.defaultText(), flag, s.environmentName(), markdownText(s.help)))
	}
	var b strings.Builder
	for _, group := range groups {
		fmt.Fprintf(&b, "\n## %s\n\n| key | type | default | flag | environment variable | meaning |\n| --- | --- | --- | --- | --- | --- |\n%s", group, strings.Join(rows[group], ""))
	}
	b.WriteString("\n## sweeps\n\n`sweeps[]` is one sweep of the list.\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, s := range sweep.settings() {
		value := s.defaultText()
		if isRequired(t, s.key) {
			value = "required"
		}
		fmt.Fprintf(&b, "| `sweeps[].%s` | %s | %s | %s |\n", s.key, s.typeName(t), value, markdownText(s.help))
	}
	b.WriteString("\n")
	return b.String()
}

// typeName returns the type of the setting's value, with its unit.
func (s *setting) typeName(t *testing.T) string {
	switch s.field.(type) {
	case *string:
		return "string"
	case *[]string:
		return "list of strings"
	case *map[string]string:
		return "map of strings"
	case *bool:
		return "boolean"
	case *time.Duration:
		return "duration"
	case *int, *int64:
		if strings.HasSuffix(s.key, "bytes") {
			return "bytes"
		}
		return "integer"
	case *float64:
		return "number"
	case *[]sweepConfig:
		return "list of sweeps"
	}
	require.Fail(t, "the type has no name", "%s: %T", s.key, s.field)
	return ""
}

// defaultText returns the value of the setting, or nothing if it is empty.
func (s *setting) defaultText() string {
	text := ""
	switch v := s.field.(type) {
	case *string:
		text = *v
	case *[]string:
		text = strings.Join(*v, ", ")
	case *bool:
		text = strconv.FormatBool(*v)
	case *int:
		text = strconv.Itoa(*v)
	case *int64:
		text = strconv.FormatInt(*v, 10)
	case *float64:
		text = strconv.FormatFloat(*v, 'f', -1, 64)
	case *time.Duration:
		text = v.String()
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(text, zero) {
				text = text[:len(text)-2]
			}
		}
	}
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// isRequired reports whether a sweep without the key is refused.
func isRequired(t *testing.T, key string) bool {
	sweep := map[string]any{"name": "all", "schedule": "@every 1m", "packs": []string{"rules"}}
	refused := func(keys map[string]any) bool {
		text, err := yaml.Marshal([]any{keys})
		require.NoError(t, err)
		c := newConfig()
		require.NoError(t, c.loadSweeps(string(text)))
		_, err = c.sweeps()
		return err != nil
	}
	require.False(t, refused(sweep))
	without := maps.Clone(sweep)
	delete(without, key)
	return refused(without)
}

// markdownText returns the help as the text of a cell.
func markdownText(help string) string {
	return strings.NewReplacer("see docs/configuration.md", "see [sweeps](#sweeps)", "`", "", "|", `\|`, "*", `\*`, "<", "&lt;").Replace(help)
}
