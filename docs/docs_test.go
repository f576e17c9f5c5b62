// Package docs_test checks the documentation against the code: examples, links, flags, settings and imports.
package docs_test

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/dsl"
)

func TestExamplesPassTheirTests(t *testing.T) {
	packs, err := rules.Load([]string{"examples"}, rules.Options{})
	require.NoError(t, err)
	for _, pack := range packs {
		for _, rule := range pack.Rules {
			require.NotEmpty(t, rule.Tests, "%s/%s has no tests", pack.Name, rule.ID)
			for _, result := range rule.RunTests(t.Context()) {
				require.NoError(t, result.Err)
			}
		}
	}
}

// The first line of a fenced block in rule-language.md determines its content:
//
//	```cel            expressions of examples/rule-language.yaml, one per line
//	```cel refused    expressions that are refused as the when of a rule
//	```cel prefilter  pairs of lines: a when, and the prefilter that is derived from it
//	```cel everything expressions that, as a when, give the prefilter { }
//
// In every document, a ```yaml block that starts with apiVersion is a pack.
func TestExpressionsInTheRuleLanguageAreTrue(t *testing.T) {
	packs, err := rules.Load([]string{"examples/rule-language.yaml"}, rules.Options{})
	require.NoError(t, err)
	tested := map[string]bool{}
	for _, rule := range packs[0].Rules {
		for _, source := range slices.Concat([]string{rule.When}, rule.Always, rule.Never) {
			tested[source] = true
		}
	}
	count := map[string]int{}
	for _, block := range blocks(t, "rule-language.md") {
		lines := strings.Split(strings.TrimRight(block.text, "\n"), "\n")
		for i, line := range lines {
			where := fmt.Sprintf("%s:%d: %s", block.file, block.line+i+1, line)
			switch block.language {
			case "cel":
				require.True(t, tested[line], "%s: missing in examples/rule-language.yaml: add it to a rule there", where)
			case "cel refused":
				_, err := whenRule(line)
				require.Error(t, err, where)
			case "cel prefilter":
				if strings.HasPrefix(line, " ") {
					rule, err := whenRule(lines[i-1])
					require.NoError(t, err, where)
					require.Equal(t, strings.TrimSpace(line), rule.Prefilter().String(), where)
				}
			case "cel everything":
				rule, err := whenRule(line)
				require.NoError(t, err, where)
				require.Equal(t, "{ }", rule.Prefilter().Prefilter().String(), where)
			}
			count[block.language]++
		}
	}
	require.NotZero(t, count["cel"])
	require.NotZero(t, count["cel refused"])
	require.NotZero(t, count["cel prefilter"])
	require.NotZero(t, count["cel everything"])
}

func TestPacksInDocumentsPassTheirTests(t *testing.T) {
	for _, file := range documents(t) {
		for _, block := range blocks(t, file) {
			if block.language != "yaml" || !strings.HasPrefix(block.text, "apiVersion:") {
				continue
			}
			pack, err := rules.Parse(fmt.Sprintf("%s (block in line %d)", file, block.line), []byte(block.text), rules.Options{})
			require.NoError(t, err)
			for _, rule := range pack.Rules {
				for _, result := range rule.RunTests(t.Context()) {
					require.NoError(t, result.Err)
				}
			}
		}
	}
}

// A ```betracedsl block in importing.md contains pairs of lines: a rule, and the when that is
// imported from it. A file that begins with its name as a comment is imported as the pack in
// the next block.
func TestImportsAreAsDocumented(t *testing.T) {
	pairs, packs := 0, 0
	all := blocks(t, "importing.md")
	for n, block := range all {
		lines := strings.Split(strings.TrimRight(block.text, "\n"), "\n")
		name, isFile := strings.CutPrefix(lines[0], "# ")
		switch {
		case block.language == "betracedsl":
			for i := 1; i < len(lines); i += 2 {
				result := dsl.Import([]dsl.File{{Name: "r", Data: []byte(lines[i-1])}}, dsl.Options{Severity: "low"})
				require.Empty(t, result.Errors, lines[i-1])
				require.Equal(t, strings.TrimSpace(lines[i]), result.Rules[0].When)
				pairs++
			}
		case block.language == "yaml" && isFile:
			result := dsl.Import([]dsl.File{{Name: name, Data: []byte(block.text)}}, dsl.Options{})
			require.Empty(t, result.Errors)
			require.Empty(t, result.Warnings)
			pack, err := result.Pack(strings.TrimSuffix(name, ".yaml"))
			require.NoError(t, err)
			require.Equal(t, all[n+1].text, string(pack))
			packs++
		}
	}
	require.NotZero(t, pairs)
	require.NotZero(t, packs)
}

// whenRule compiles a rule with the condition when.
func whenRule(when string) (*rules.Rule, error) {
	data, err := yaml.Marshal(map[string]any{
		"apiVersion": rules.APIVersion, "kind": rules.Kind, "metadata": map[string]string{"name": "p"},
		"rules": []any{map[string]string{"id": "r", "title": "R", "severity": "low", "when": when}},
	})
	if err != nil {
		return nil, err
	}
	pack, err := rules.Parse("p.yaml", data, rules.Options{})
	if err != nil {
		return nil, err
	}
	return pack.Rules[0], nil
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksPointAtWhatIsThere(t *testing.T) {
	checked := 0
	for _, file := range markdown(t) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(withoutBlocks(string(text)), -1) {
			to, err := url.Parse(m[1])
			require.NoError(t, err, "%s: %s", file, m[1])
			if to.Scheme != "" {
				continue
			}
			target := file
			if to.Path != "" {
				target = filepath.Join(filepath.Dir(file), to.Path)
			}
			_, err = os.Stat(target)
			require.NoError(t, err, "%s links to %s", file, m[1])
			if to.Fragment != "" {
				require.Contains(t, anchors(t, target), to.Fragment, "%s links to %s", file, m[1])
			}
			checked++
		}
	}
	require.NotZero(t, checked)
}

// The table in architecture.md lists the permitted imports of each folder. Subfolders that are not in
// the table have the same permissions as their parent.
func TestImportsAreThoseOfTheTable(t *testing.T) {
	const module = "github.com/betracehq/betrace/"
	text, err := os.ReadFile("architecture.md")
	require.NoError(t, err)
	allowed := map[string]map[string]bool{}
	code := regexp.MustCompile("`([^`]+)`")
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|.*\\|(.*)\\|$").FindAllStringSubmatch(string(text), -1) {
		allowed[m[1]] = map[string]bool{m[1]: true}
		for _, name := range code.FindAllStringSubmatch(m[2], -1) {
			allowed[m[1]][name[1]] = true
		}
	}
	folder := func(path string) string {
		for path = strings.TrimPrefix(path, module); path != "." && allowed[path] == nil; {
			path = filepath.ToSlash(filepath.Dir(path))
		}
		return path
	}
	imports := output(t, "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "../...")
	for line := range strings.Lines(imports) {
		words := strings.Fields(line)
		from := folder(words[0])
		require.NotNil(t, allowed[from], "%s: no row in the table of architecture.md", words[0])
		for _, to := range words[1:] {
			if strings.HasPrefix(to, module) {
				require.True(t, allowed[from][folder(to)], "%s imports %s", words[0], to)
			}
		}
	}
}

func TestFlagsAndSettingsExist(t *testing.T) {
	program := buildBetrace(t)
	flags := map[string]map[string]bool{} // by command
	all := map[string]bool{}
	for commands := []string{""}; len(commands) > 0; commands = commands[1:] {
		command := commands[0]
		help := output(t, program, append(strings.Fields(command), "--help")...)
		flags[command] = map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^\s+(?:-(\w), |    )--([a-z-]+)`).FindAllStringSubmatch(help, -1) {
			for _, name := range m[1:] {
				flags[command][name], all[name] = true, true
			}
		}
		_, below, _ := strings.Cut(help, "\nAvailable Commands:\n")
		below, _, _ = strings.Cut(below, "\n\n")
		for line := range strings.Lines(below) {
			commands = append(commands, strings.TrimSpace(command+" "+strings.Fields(line)[0]))
		}
	}
	require.Contains(t, flags, "rules explain")
	settings, groups := settingKeys(t, output(t, program, "config", "check"))
	variables := map[string]bool{"BETRACE_CONFIG": true, "BETRACE_STACK_CACHE": true}
	for key := range settings {
		variables["BETRACE_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))] = true
	}
	key := regexp.MustCompile(`^(tempo|loki|scan|limits|signing|outbox|log)\.[a-z_.]+$`) // server.address is also an attribute of OpenTelemetry
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`BETRACE_[A-Z_]*[A-Z]`).FindAllString(string(text), -1) {
			require.True(t, variables[name], "%s: unknown variable %s", file, name)
		}
		for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(withoutBlocks(string(text)), -1) {
			code := m[1]
			switch {
			case key.MatchString(code):
				require.True(t, settings[code] || groups[code], "%s: unknown setting %s", file, code)
			case strings.HasPrefix(code, "--"):
				require.True(t, all[flagName(code)], "%s: unknown flag %s", file, code)
			case strings.HasPrefix(code, "betrace "):
				checkCommand(t, file, code, flags)
			}
		}
		for _, block := range blocks(t, file) {
			if block.language == "yaml" && regexp.MustCompile(`^(tempo|loki|scan|limits|tenant|rules|state|sweeps):`).MatchString(block.text) {
				name := filepath.Join(t.TempDir(), "betrace.yaml")
				require.NoError(t, os.WriteFile(name, []byte(block.text), 0o600))
				output(t, program, "--config", name, "config", "check")
			}
			for line := range strings.Lines(strings.ReplaceAll(block.text, "\\\n", " ")) {
				line = strings.TrimPrefix(strings.TrimSpace(line), "$ ")
				line = strings.TrimPrefix(line, "bin/")
				if strings.HasPrefix(line, "betrace ") {
					checkCommand(t, file, line, flags)
				}
			}
		}
	}
}

// checkCommand fails the test if a command line has an unknown command or flag.
func checkCommand(t *testing.T, file, line string, flags map[string]map[string]bool) {
	t.Helper()
	line = regexp.MustCompile(`'[^']*'|"[^"]*"`).ReplaceAllString(line, "QUOTED")
	line, _, _ = strings.Cut(line, " #")
	var command []string
	for _, word := range strings.Fields(line)[1:] {
		if name := strings.Join(append(slices.Clone(command), word), " "); flags[name] != nil {
			command = append(command, word)
		}
	}
	name := strings.Join(command, " ")
	if strings.Fields(line)[1] != "--version" && strings.Fields(line)[1] != "…" {
		require.NotEmpty(t, name, "%s: unknown command: %s", file, line)
	}
	for _, word := range strings.Fields(line) {
		if word = strings.TrimLeft(word, "[("); strings.HasPrefix(word, "-") && word != "-" {
			require.True(t, flags[name][flagName(word)] || flags[""][flagName(word)], "%s: unknown flag of betrace %s: %s: %s", file, name, word, line)
		}
	}
}

func flagName(word string) string {
	word, _, _ = strings.Cut(strings.TrimLeft(word, "-"), "=")
	return strings.Trim(strings.Fields(word)[0], "])…,")
}

func buildBetrace(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "betrace")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/betrace").CombinedOutput()
	require.NoError(t, err, string(out))
	return program
}

func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "BETRACE_") })
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "betrace %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// settingKeys returns the keys in the output of config check, and the groups that contain them.
func settingKeys(t *testing.T, text string) (keys, groups map[string]bool) {
	t.Helper()
	var tree map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &tree))
	keys, groups = map[string]bool{}, map[string]bool{}
	var walk func(prefix string, tree map[string]any)
	walk = func(prefix string, tree map[string]any) {
		for k, v := range tree {
			if below, ok := v.(map[string]any); ok && len(below) > 0 {
				groups[prefix+k] = true
				walk(prefix+k+".", below)
			} else {
				keys[prefix+k] = true
			}
		}
	}
	walk("", tree)
	return keys, groups
}

// markdown returns all Markdown files of the repository.
func markdown(t *testing.T) []string {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && path != ".." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "bin" || name == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
		return nil
	}))
	return files
}

// documents returns the files of the user documentation.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.md")
	require.NoError(t, err)
	return append(files, "../README.md", "examples/README.md")
}

// block is a fenced block of code, with its language and the line in which it starts.
type block struct {
	file, language, text string
	line                 int
}

func blocks(t *testing.T, file string) []block {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var list []block
	var open *block
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		switch fence, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "```"); {
		case ok && open == nil:
			open = &block{file: file, language: fence, line: number}
		case ok:
			list = append(list, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	require.Nil(t, open, "%s: unclosed fenced block", file)
	return list
}

func withoutBlocks(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(text, "")
}

// anchors returns the names that GitHub gives to the headings of a file.
func anchors(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(withoutBlocks(string(text)), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
