package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// swapped are the replacements of operators.
var swapped = map[token.Token]string{
	token.EQL: "!=", token.NEQ: "==", token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">",
	token.LAND: "||", token.LOR: "&&", token.ADD: "-", token.SUB: "+", token.MUL: "+", token.QUO: "*",
	token.AND: "|", token.OR: "&", token.AND_NOT: "&", token.SHL: ">>", token.SHR: "<<", token.XOR: "&",
	token.ADD_ASSIGN: "-=", token.SUB_ASSIGN: "+=", token.AND_ASSIGN: "|=", token.OR_ASSIGN: "&=", token.AND_NOT_ASSIGN: "|=",
	token.INC: "--", token.DEC: "++",
}

// operators returns the mutations of all files of a folder. In functions each operator, boolean, number,
// and call whose result is not used is changed once.
func operators(dir string) ([]mutation, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var list []mutation
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("operators: %w", err)
		}
		alter := func(at token.Pos, old, with string) {
			place := set.Position(at)
			line, _, _ := strings.Cut(string(text[place.Offset-place.Column+1:]), "\n")
			list = append(list, mutation{
				File: name, Old: old, New: with, offset: place.Offset + 1,
				Why: fmt.Sprintf("line %d: %q instead of %q in %s", place.Line, with, old, strings.TrimSpace(line)),
			})
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
				ast.Inspect(f.Body, func(n ast.Node) bool { return alterNode(n, text, set, alter) })
			}
		}
	}
	return list, nil
}

func alterNode(n ast.Node, text []byte, set *token.FileSet, alter func(at token.Pos, old, with string)) bool {
	source := func(n ast.Node) string {
		return string(text[set.Position(n.Pos()).Offset:set.Position(n.End()).Offset])
	}
	operator := func(at token.Pos, op token.Token) {
		if with, ok := swapped[op]; ok {
			alter(at, op.String(), with)
		}
	}
	switch n := n.(type) {
	case *ast.BinaryExpr:
		operator(n.OpPos, n.Op)
	case *ast.AssignStmt:
		operator(n.TokPos, n.Tok)
	case *ast.IncDecStmt:
		operator(n.TokPos, n.Tok)
	case *ast.UnaryExpr:
		if n.Op == token.NOT || n.Op == token.SUB || n.Op == token.XOR {
			alter(n.OpPos, n.Op.String(), "")
		}
	case *ast.Ident:
		if n.Name == "true" || n.Name == "false" {
			alter(n.Pos(), n.Name, strconv.FormatBool(n.Name == "false"))
		}
	case *ast.BasicLit:
		if n.Kind == token.INT {
			if i, err := strconv.Atoi(n.Value); err == nil {
				alter(n.Pos(), n.Value, strconv.Itoa(i+1))
			}
		}
	case *ast.ExprStmt:
		if _, ok := n.X.(*ast.CallExpr); ok && !strings.Contains(source(n), "\n") {
			alter(n.Pos(), source(n), "")
		}
	case *ast.CaseClause:
		return !slices.ContainsFunc(n.List, func(x ast.Expr) bool { l, ok := x.(*ast.BasicLit); return ok && l.Kind == token.STRING })
	}
	return true
}
