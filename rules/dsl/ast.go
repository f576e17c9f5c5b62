package dsl

// position is where something begins in a DSL text: line and column from 1, in
// characters.
type position struct{ line, column int }

func (p position) at() position { return p }

// ruleTree is a rule. One of the older form has only a when.
type ruleTree struct {
	when          node
	always, never node // nil where there is none
}

// node is a condition: on a trace, or within the filters of a span check on a span.
type node interface{ at() position }

type (
	// logic joins conditions, two at least, by "and" or "or".
	logic struct {
		position
		op    string
		parts []node
	}
	negation struct {
		position
		of node
	}
	// spanCheck asks for one span of that name that passes every filter.
	spanCheck struct {
		position
		name    string
		filters []node
	}
	// anySpan asks for one span, of whatever name, that passes the filter.
	anySpan struct {
		position
		filter node
	}
	// countCheck compares how many spans of that name there are.
	countCheck struct {
		position
		name  string
		op    string
		right operand
	}
	// comparison compares a field of the span that is looked at.
	comparison struct {
		position
		left  field
		op    string
		right operand
	}
	// truth is a boolean attribute that stands alone.
	truth struct {
		position
		key string
	}
	// presence asks whether the span has an attribute.
	presence struct {
		position
		key string
	}
)

// fieldKind says what of a span a field is.
type fieldKind string

// The fields of a span; only the older form names others than attributes.
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

// operandKind says what stands on the right of an operator.
type operandKind string

const (
	operandText     operandKind = "text"
	operandWord     operandKind = "word" // without quotes: a text, by the grammar
	operandNumber   operandKind = "number"
	operandDuration operandKind = "duration"
	operandBool     operandKind = "truth value"
	operandList     operandKind = "list"
	operandCount    operandKind = "count"
)

type operand struct {
	position
	kind operandKind
	text string // of a text or a word; as written for numbers, durations and truth values; of a count, the span's name
	list []operand
}
