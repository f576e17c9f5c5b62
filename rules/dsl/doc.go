// Package dsl translates rules that were written in BeTraceDSL, for earlier versions of
// BeTrace, into packs of rules in CEL.
//
// It never guesses: what has no exact translation is an error with its place, and the
// other rules are translated all the same. docs/importing.md says what each construct
// becomes.
//
// A rule goes through here so:
//
//	read.go       YAML or JSON becomes nodes that know their places
//	import.go     nodes become rules; the text of each goes through the next three
//	lex.go        a text becomes tokens
//	parse.go      tokens become the tree of ast.go
//	translate.go  the tree becomes CEL; narrow.go: the TraceQL that narrows what is read
//	pack.go       rules become the YAML of a pack, which has to load
package dsl
