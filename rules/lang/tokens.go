package lang

import (
	"iter"
	"slices"

	"github.com/antlr4-go/antlr/v4"
	"github.com/google/cel-go/parser/gen"
)

// token is a token of an expression, with a kind [gen.CELLexer…], or a character that does not begin a token.
type token struct {
	kind int
	text string
	// start and end are offsets in characters.
	start, end int
}

// unrecognised is the kind of a character that does not begin a token.
const unrecognised = antlr.TokenInvalidType

// maxUnrecognised limits the number of characters after which the lexer is restarted.
const maxUnrecognised = 100

// tokens splits an expression like cel-go. Comments are tokens, white space is not.
func tokens(source string) []token {
	var out []token
	text := []rune(source)
	at := 0
	for range maxUnrecognised {
		lexer := gen.NewCELLexer(antlr.NewInputStream(string(text[at:])))
		lexer.RemoveErrorListeners()
		end := 0 // end of the previous token
		for {
			t := lexer.NextToken()
			isEnd := t.GetTokenType() == antlr.TokenEOF
			start := t.GetStart()
			if isEnd {
				start = len(text) - at
			}
			if start > end { // the lexer skipped a character, and possibly more
				break
			}
			if isEnd {
				return out
			}
			end = t.GetStop() + 1
			if t.GetTokenType() != gen.CELLexerWHITESPACE {
				out = append(out, token{t.GetTokenType(), t.GetText(), at + start, at + end})
			}
		}
		at += end
		out = append(out, token{unrecognised, string(text[at]), at, at + 1})
		at++
	}
	return out
}

// Comments yields the start and end of each comment in an expression, in characters.
func Comments(source string) iter.Seq2[int, int] {
	return func(yield func(start, end int) bool) {
		for _, t := range tokens(source) {
			if t.kind == gen.CELLexerCOMMENT && !yield(t.start, t.end) {
				return
			}
		}
	}
}

// endsOperand reports whether an operand can end with the token.
func (t token) endsOperand() bool {
	return slices.Contains([]int{
		gen.CELLexerIDENTIFIER, gen.CELLexerESC_IDENTIFIER, gen.CELLexerRPAREN, gen.CELLexerRPRACKET, gen.CELLexerRBRACE,
		gen.CELLexerCEL_TRUE, gen.CELLexerCEL_FALSE, gen.CELLexerNUL, gen.CELLexerNUM_INT, gen.CELLexerNUM_UINT, gen.CELLexerNUM_FLOAT,
		gen.CELLexerSTRING, gen.CELLexerBYTES,
	}, t.kind)
}

// beginsOperand reports whether an operand can begin with the token.
func (t token) beginsOperand() bool {
	return slices.Contains([]int{
		gen.CELLexerIDENTIFIER, gen.CELLexerLPAREN, gen.CELLexerLBRACKET, gen.CELLexerLBRACE, gen.CELLexerEXCLAM, gen.CELLexerMINUS,
		gen.CELLexerCEL_TRUE, gen.CELLexerCEL_FALSE, gen.CELLexerNUL, gen.CELLexerNUM_INT, gen.CELLexerNUM_UINT, gen.CELLexerNUM_FLOAT,
		gen.CELLexerSTRING, gen.CELLexerBYTES, unrecognised,
	}, t.kind)
}
