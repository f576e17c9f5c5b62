package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// chosenMutant is the environment variable with the number of the mutant that a binary runs.
const chosenMutant = "MUTANT"

// selector is a file that is added to the package. Its names do not collide with those of any package.
// Functions that are called while the package is initialised refer to the variable, which is therefore
// initialised first.
const selector = `package %s

import (
	mutantOS "os"
	mutantStrconv "strconv"
)

var mutantChosen, _ = mutantStrconv.Atoi(mutantOS.Getenv(%q))
`

// schemata are all mutations of a package in one program. Each mutation has a copy of the function that
// it is in. The function calls the copy of the mutant that is chosen when the program starts, so one
// build is enough for all.
type schemata struct {
	dir  string // a copy of the module
	list []mutation
	// verdicts are the reasons why mutations are not in the program, empty if they are. Mutant n is the
	// mutation n-1, since mutant 0 is the unchanged code.
	verdicts []outcome
	texts    map[string][]byte // the unchanged files
}

func newSchemata(dir string, list []mutation) (*schemata, error) {
	s := &schemata{dir: dir, list: list, verdicts: make([]outcome, len(list)), texts: map[string][]byte{}}
	for _, m := range list {
		if s.texts[m.File] != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, m.File))
		if err != nil {
			return nil, fmt.Errorf("read the code to be changed: %w", err)
		}
		s.texts[m.File] = text
	}
	return s, nil
}

// write writes the files with all mutants that are not known to fail to build.
func (s *schemata) write() error {
	for name, text := range s.texts {
		path := filepath.Join(s.dir, name)
		file, err := s.file(name, text)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, file, 0o644); err != nil {
			return fmt.Errorf("write mutants: %w", err)
		}
	}
	return nil
}

// file returns a file in which the functions call their mutants. The mutants follow the original code in
// the same file, so that they have the same imports. It also writes the selector beside the file.
func (s *schemata) file(name string, text []byte) ([]byte, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse the code to be changed: %w", err)
	}
	var edits []edit
	var copies bytes.Buffer
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		in := original{FuncDecl: f, base: set.File(f.Pos()).Base(), text: text}
		if mutants := s.mutantsOf(name, in, &copies); len(mutants) > 0 {
			edits = append(edits, in.dispatch(mutants)...)
		}
	}
	selecting := filepath.Join(s.dir, filepath.Dir(name), "mutant_mutation.go")
	if err := os.WriteFile(selecting, fmt.Appendf(nil, selector, file.Name.Name, chosenMutant), 0o644); err != nil {
		return nil, fmt.Errorf("write the selector of the mutant: %w", err)
	}
	return append(splice(text, 0, len(text), edits), copies.Bytes()...), nil
}

// mutantsOf writes the mutants of a function and returns their numbers.
func (s *schemata) mutantsOf(file string, f original, copies *bytes.Buffer) (mutants []int) {
	for i, m := range s.list {
		at := m.offset - 1
		if m.File != file || at < f.offset(f.Body.Pos()) || at >= f.offset(f.Body.End()) || s.verdicts[i] != "" {
			continue
		}
		if !f.dispatches() {
			s.verdicts[i] = untried
			continue
		}
		mutant := f.mutant(i+1, m)
		// A mutant that cannot be parsed would hide all other errors from the compiler.
		if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+mutant, parser.SkipObjectResolution); err != nil {
			s.verdicts[i] = unbuilt
			continue
		}
		// The line directive makes the compiler name the mutant in which an error is.
		fmt.Fprintf(copies, "\n//go:noinline\n//line mutant%d.go:1\n%s\n", i+1, mutant)
		mutants = append(mutants, i+1)
	}
	return mutants
}

var errorInMutant = regexp.MustCompile(`(?m)^\S*\bmutant(\d+)\.go:\d+`)

// drop removes the mutants in which the compiler found errors, and returns their number.
func (s *schemata) drop(output string) (dropped int) {
	for _, found := range errorInMutant.FindAllStringSubmatch(output, -1) {
		n, err := strconv.Atoi(found[1])
		if err != nil || n < 1 || n > len(s.list) || s.verdicts[n-1] != "" {
			continue
		}
		s.verdicts[n-1] = unbuilt
		dropped++
	}
	return dropped
}

// count returns the number of mutations with this verdict.
func (s *schemata) count(o outcome) (n int) {
	for _, v := range s.verdicts {
		if v == o {
			n++
		}
	}
	return n
}

// original is an unchanged function.
type original struct {
	*ast.FuncDecl
	base int
	text []byte
}

func (f original) offset(at token.Pos) int { return int(at) - f.base }

// dispatches reports whether the function can be replaced by another one. The program calls init and main
// by their names, and recover works only in the function that calls it.
func (f original) dispatches() bool {
	ok := f.Name.Name != "init" && f.Name.Name != "main" && f.Name.Name != "_"
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if call, is := n.(*ast.CallExpr); is {
			name, is := call.Fun.(*ast.Ident)
			ok = ok && (!is || name.Name != "recover")
		}
		_, other := n.(*ast.FuncLit)
		return !other
	})
	return ok
}

func (f original) nameOf(mutant int) string { return fmt.Sprintf("%s_mutant%d", f.Name.Name, mutant) }

// mutant returns the changed function.
func (f original) mutant(n int, m mutation) string {
	return string(splice(f.text, f.offset(f.Pos()), f.offset(f.End()), []edit{
		{f.offset(f.Name.Pos()), f.offset(f.Name.End()), f.nameOf(n)},
		{m.offset - 1, m.offset - 1 + len(m.Old), m.New},
	}))
}

// dispatch returns the edits that make the function call its mutants. They are in the line in which the
// body begins, so that the numbers of the other lines stay correct.
func (f original) dispatch(mutants []int) []edit {
	receiver, edits := f.names(f.Recv, "mutantReceiver")
	types, more := f.names(f.Type.TypeParams, "mutantType")
	edits = append(edits, more...)
	args, more := f.names(f.Type.Params, "mutantArg")
	edits = append(edits, more...)

	call := "(" + strings.Join(args, ", ") + ")"
	if len(types) > 0 {
		call = "[" + strings.Join(types, ", ") + "]" + call
	}
	before, after := "return ", ""
	if f.Type.Results.NumFields() == 0 {
		before, after = "", "; return"
	}
	if len(receiver) > 0 {
		before += receiver[0] + "."
	}
	// While a mutant of another function is chosen, the cost is two comparisons.
	var b strings.Builder
	fmt.Fprintf(&b, " if mutantChosen >= %d && mutantChosen <= %d { switch mutantChosen { ", slices.Min(mutants), slices.Max(mutants))
	for _, n := range mutants {
		fmt.Fprintf(&b, "case %d: %s%s%s%s; ", n, before, f.nameOf(n), call, after)
	}
	b.WriteString("} };")
	begin := f.offset(f.Body.Lbrace) + 1
	return append(edits, edit{begin, begin, b.String()})
}

// names returns the names by which parameters are passed on, and the edits that name unnamed parameters.
func (f original) names(fields *ast.FieldList, prefix string) (names []string, edits []edit) {
	if fields == nil {
		return nil, nil
	}
	for _, field := range fields.List {
		spread := ""
		if _, ok := field.Type.(*ast.Ellipsis); ok {
			spread = "..."
		}
		if len(field.Names) == 0 {
			name, at := prefix+strconv.Itoa(len(names)), f.offset(field.Type.Pos())
			names, edits = append(names, name+spread), append(edits, edit{at, at, name + " "})
		}
		for _, ident := range field.Names {
			name := ident.Name
			if name == "_" {
				name = prefix + strconv.Itoa(len(names))
				edits = append(edits, edit{f.offset(ident.Pos()), f.offset(ident.End()), name})
			}
			names = append(names, name+spread)
		}
	}
	return names, edits
}

// edit replaces the text between two offsets.
type edit struct {
	from, to int
	with     string
}

// splice returns a part of the text after the edits.
func splice(text []byte, from, to int, edits []edit) []byte {
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var b []byte
	for _, e := range edits {
		b = append(append(b, text[from:e.from]...), e.with...)
		from = e.to
	}
	return append(b, text[from:to]...)
}
