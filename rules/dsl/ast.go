package dsl

// position is a line and a column in a DSL source, both from 1. Columns count characters.
type position struct{ line, column int }

func (p position) at() position { return p }

// ruleTree is the syntax tree of a rule. A rule of the older form has only a when.
type ruleTree struct {
	when          node
	always, never node // nil if missing
}

// node is a condition on a trace or, within the filters of a span check, on a span.
type node interface{ at() position }

type (
	// logic joins two or more conditions by "and" or "or".
	logic struct {
		position
		op    string
		parts []node
	}
	negation struct {
		position
		of node
	}
	// spanCheck is true if one span with this name passes every filter.
	spanCheck struct {
		position
		name    string
		filters []node
	}
	// anySpan is true if one span, with any name, passes the filter.
	anySpan struct {
		position
		filter node
	}
	// countCheck compares the number of spans with this name.
	countCheck struct {
		position
		name  string
		op    string
		right operand
	}
	// comparison compares a field of the current span.
	comparison struct {
		position
		left  field
		op    string
		right operand
	}
	// truth is a boolean attribute used as a condition.
	truth struct {
		position
		key string
	}
	// presence is true if the span has the attribute.
	presence struct {
		position
		key string
	}
)

// fieldKind is the kind of a span's field.
type fieldKind string

// The fields of a span. Only the older form has fields other than attributes.
const (
	fieldAttribute fieldKind = "attribute"
	fieldName      fieldKind = "name"
	fieldService   fieldKind = "service"
	fieldDuration  fieldKind = "duration"
	fieldStatus    fieldKind = "status"
	fieldKindOf    fieldKind = "kind"
)

type field struct {
	position
	kind fieldKind
	key  string // of an attribute
}

// operandKind is the kind of an operator's right operand.
type operandKind string

const (
	operandText     operandKind = "string"
	operandWord     operandKind = "word" // an unquoted string, by the grammar
	operandNumber   operandKind = "number"
	operandDuration operandKind = "duration"
	operandBool     operandKind = "boolean"
	operandList     operandKind = "list"
	operandCount    operandKind = "count"
)

type operand struct {
	position
	kind operandKind
	text string // the string or word; the source text of numbers, durations and booleans; the span's name of a count
	list []operand
}
