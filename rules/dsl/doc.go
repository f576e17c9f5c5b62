// Package dsl translates rules in BeTraceDSL, the language of earlier versions of BeTrace, into packs of
// rules in CEL.
//
// It never guesses: a construct without an exact translation is an error with its position, and the other
// rules are translated nevertheless. docs/importing.md describes the translation of each construct.
//
// A rule passes through these files:
//
//	read.go       parses YAML or JSON into nodes with positions
//	import.go     converts nodes to rules; the DSL source of each passes through the next three files
//	lex.go        splits a DSL source into tokens
//	parse.go      parses tokens into the tree of ast.go
//	translate.go  translates the tree to CEL; narrow.go derives a TraceQL prefilter
//	pack.go       writes rules as the YAML of a pack, and checks that it loads
package dsl
