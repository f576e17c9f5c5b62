package lang

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// cardRange is a range of payment card numbers. The first four digits of a number determine its issuer, and
// thereby its length and its printed groups.
type cardRange struct {
	issuer      string
	first, last int // of the first four digits
	groups      []int
}

// cardRanges are the ranges of the issuers covered by PCI DSS. Lengths of 13 and of 17 to 19 digits are
// omitted although some issuers use them, because EAN codes, timestamps in milliseconds and nanoseconds, and
// 64-bit identifiers have the same lengths and are far more frequent in traces.
var cardRanges = []cardRange{
	{"Mastercard", 2221, 2720, groupsOf16},
	{"Diners Club", 3000, 3059, groupsOf14},
	{"American Express", 3400, 3499, groupsOf15},
	{"JCB", 3528, 3589, groupsOf16},
	{"Diners Club", 3600, 3699, groupsOf14},
	{"American Express", 3700, 3799, groupsOf15},
	{"Diners Club", 3800, 3999, groupsOf14},
	{"Visa", 4000, 4999, groupsOf16},
	{"Mastercard", 5100, 5599, groupsOf16},
	{"Discover", 6011, 6011, groupsOf16},
	{"UnionPay", 6200, 6299, groupsOf16},
	{"Discover", 6440, 6599, groupsOf16},
}

var (
	groupsOf14 = []int{4, 6, 4}
	groupsOf15 = []int{4, 6, 5}
	groupsOf16 = []int{4, 4, 4, 4}
)

const shortestCard, longestCard = 14, 16

// HasCardNumber reports whether a string contains a payment card number. It implements hasCardNumber() of the
// rule language; docs/rule-language.md defines the formats.
func HasCardNumber[T string | []byte](text T) bool {
	for i := 0; i+shortestCard <= len(text); {
		// No run of digits crosses i, and every relevant run has at least four digits.
		if !isDigit(text[i+3]) {
			i += 4
			continue
		}
		begin, end := i+3, i+4
		for begin > i && isDigit(text[begin-1]) {
			begin--
		}
		for end < len(text) && isDigit(text[end]) {
			end++
		}
		if n := end - begin; (n == 4 || n >= shortestCard && n <= longestCard) && beginsApart(text, begin) && isCardNumber(text, begin, n) {
			return true
		}
		i = end
	}
	return false
}

// isCardNumber reports whether a card number begins at i, the start of a run of n digits.
func isCardNumber[T string | []byte](text T, i, n int) bool {
	groups := cardGroups(int(text[i]-'0')*1000 + int(text[i+1]-'0')*100 + int(text[i+2]-'0')*10 + int(text[i+3]-'0'))
	length := 0
	for _, size := range groups {
		length += size
	}
	if groups == nil || n != groups[0] && n != length {
		return false
	}
	var separator byte
	if n == groups[0] && i+n < len(text) {
		if separator = text[i+n]; separator != ' ' && separator != '-' {
			return false
		}
	}
	sum, at, rest := 0, i, length
	for g, size := range groups {
		if g > 0 && separator != 0 {
			if at >= len(text) || text[at] != separator {
				return false
			}
			at++
		}
		if at+size > len(text) {
			return false
		}
		for range size {
			if !isDigit(text[at]) {
				return false
			}
			// The Luhn check: from the right, every second digit is doubled and counts as the sum of its digits.
			digit := int(text[at] - '0')
			if rest%2 == 0 {
				digit *= 2
			}
			sum += digit/10 + digit%10
			at++
			rest--
		}
	}
	return sum%10 == 0 && endsApart(text, at) && !(separator == ' ' && isOfIBAN(text, i))
}

// isOfIBAN reports whether the groups that begin at i belong to an IBAN: they are groups of four digits after
// two letters and two digits.
func isOfIBAN[T string | []byte](text T, i int) bool {
	for i >= 5 && text[i-1] == ' ' && isDigit(text[i-2]) && isDigit(text[i-3]) {
		i -= 5
		if isLetter(text[i]) && isLetter(text[i+1]) {
			return i == 0 || !isWord(text[i-1])
		}
		if !isDigit(text[i]) || !isDigit(text[i+1]) {
			return false
		}
	}
	return false
}

// cardGroups returns the groups of the numbers with the given first four digits, or nil if there are none.
func cardGroups(prefix int) []int {
	for _, r := range cardRanges {
		if r.first <= prefix && prefix <= r.last {
			return r.groups
		}
	}
	return nil
}

// beginsApart reports whether a number that begins at i is not a continuation of a word, a decimal number, or
// a name with parts such as a UUID.
func beginsApart[T string | []byte](text T, i int) bool {
	if i == 0 {
		return true
	}
	switch before := text[i-1]; before {
	case '-':
		return i == 1 || !isWord(text[i-2])
	case '.':
		return i == 1 || !isDigit(text[i-2])
	default:
		return !isWord(before)
	}
}

// endsApart is beginsApart for the end of a number. end is the index after its last digit.
func endsApart[T string | []byte](text T, end int) bool {
	if end == len(text) {
		return true
	}
	switch after := text[end]; after {
	case '-':
		return end+1 == len(text) || !isWord(text[end+1])
	case '.':
		return end+1 == len(text) || !isDigit(text[end+1])
	default:
		return !isWord(after)
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// isWord reports whether c matches \w of RE2. Letters beyond ASCII do not join a number to a word.
func isWord(c byte) bool {
	return isDigit(c) || isLetter(c) || c == '_'
}

// cardFunction declares hasCardNumber().
func cardFunction() cel.EnvOption {
	return cel.Function(FunctionHasCardNumber, cel.MemberOverload("string_has_card_number", []*cel.Type{cel.StringType}, cel.BoolType,
		cel.UnaryBinding(func(v ref.Val) ref.Val {
			text, ok := v.(types.String)
			if !ok {
				return types.MaybeNoSuchOverloadErr(v)
			}
			return types.Bool(HasCardNumber(string(text)))
		})))
}

// cardPattern matches a part of every string that contains a card number. It is sent to Tempo, which has no
// such function.
const cardPattern = "[0-9]{4}[ -]?[0-9]{4}"
