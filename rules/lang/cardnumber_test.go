package lang

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCardNumbersOfEachIssuerAreFound(t *testing.T) {
	for _, number := range []string{
		// The issuers' published test numbers.
		"4111111111111111", "4242424242424242", "4012888888881881",
		"5555555555554444", "5105105105105100", "2223003122003222", "2720992593319364",
		"378282246310005", "371449635398431", "343434343434343",
		"6011111111111117", "6011000990139424", "6500000000000002", "6445644564456445",
		"3530111333300000", "3566002020360505",
		"30569309025904", "36227206271667", "38520000023237",
		"6200000000000005",
	} {
		at := []int{4, 8, 12}
		if len(number) < 16 {
			at = []int{4, 10}
		}
		grouped := func(separator string) string {
			var b strings.Builder
			for i, c := range number {
				if len(at) > 0 && (i == at[0] || len(at) > 1 && i == at[1] || len(at) > 2 && i == at[2]) {
					b.WriteString(separator)
				}
				b.WriteRune(c)
			}
			return b.String()
		}
		for _, form := range []string{grouped(""), grouped(" "), grouped("-")} {
			for _, text := range []string{form, "card " + form + " declined", `{"pan":"` + form + `"}`, "pay?card=" + form + "&cvc=1", "卡号" + form + "。", form + ".", "1 " + form + " 12", "no AB1 " + form, "XAB12 " + form, "12 3000 " + form, "-" + form + "-", "no. " + form + ", thanks"} {
				require.True(t, HasCardNumber(text), text)
				require.True(t, HasCardNumber([]byte(text)), text)
			}
		}
		last := number[len(number)-1]
		wrong := number[:len(number)-1] + string('0'+(last-'0'+1)%10)
		require.False(t, HasCardNumber(wrong), "%s fails the Luhn check", wrong)
	}
}

func TestWhatOnlyLooksLikeACardNumberIsNone(t *testing.T) {
	for why, texts := range map[string][]string{
		"nothing":                      {"", "4", "4111", "4111 1111", "4111 1111 1111 111", "411111111111111"},
		"the groups of a UUID":         {"c54fc2d6-4111-1111-1111-1111aaaaaaaa", "41111111-1111-1111-1111-111111111111", "55901788-5372-9835-8e41-5a1ab2e6a9c3", "4111-1111-1111-1111-1111", "a-4111111111111111", "4111111111111111-a"},
		"part of a word or a number":   {"x4111111111111111", "4111111111111111x", "_4111111111111111", "4111111111111111_", "14111111111111111", "41111111111111111"},
		"part of a decimal number":     {"0.4111111111111111", "4111111111111111.5"},
		"other groups":                 {"41111111 11111111", "411111 1111111111", "4111 11111111 1111", "378282 246310005", "3782 8224 6310 005", "4111 1111-1111 1111", "4111  1111  1111  1111", "4111\t1111\t1111\t1111"},
		"other separators":             {"4111.1111.1111.1111", "4111:1111:1111:1111", "4111,1111,1111,1111", "4111/1111/1111/1111"},
		"no issuer's":                  {"1111111111111117", "9999999999999995", "7992739871300000", "0000000000000000", "5000000000000009", "2220999999999996", "2721000000000004"},
		"of another length":            {"4222222222222", "4111111111111111110", "378282246310", "3782822463100050", "30569309025904000"},
		"the groups of an IBAN":        {"FR76 4111 1111 1111 1111 1111 111", "to DE12 3000 4111 1111 1111 1111.", "es12 4111 1111 1111 1111"},
		"masked":                       {"411111******1111", "4111 11XX XXXX 1111", "************1111"},
		"digits that are beyond ASCII": {"４１１１１１１１１１１１１１１１", "٤١١١١١١١١١١١١١١١"},
	} {
		for _, text := range texts {
			require.False(t, HasCardNumber(text), "%s: %s", why, text)
			require.False(t, HasCardNumber([]byte(text)), "%s: %s", why, text)
		}
	}
}

// cardForms are the formats that the documentation defines.
var cardForms = regexp.MustCompile(`^(?:` +
	`(?:4[0-9]{3}|5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720|6011|64[4-9][0-9]|65[0-9]{2}|62[0-9]{2}|352[89]|35[3-8][0-9])(?:[0-9]{12}|(?: [0-9]{4}){3}|(?:-[0-9]{4}){3})` +
	`|3[47][0-9]{2}(?:[0-9]{11}| [0-9]{6} [0-9]{5}|-[0-9]{6}-[0-9]{5})` +
	`|(?:30[0-5][0-9]|3[689][0-9]{2})(?:[0-9]{10}| [0-9]{6} [0-9]{4}|-[0-9]{6}-[0-9]{4})` +
	`)$`)

var (
	beforeCard = regexp.MustCompile(`(?:^|^-|[^-.\w]|[^\w]-|[^0-9]\.|^\.)$`)
	iban       = regexp.MustCompile(`(?:^|\W)[A-Za-z]{2}[0-9]{2} (?:[0-9]{4} )*$`)
	afterCard  = regexp.MustCompile(`^(?:$|-$|\.$|[^-.\w]|-[^\w]|\.[^0-9])`)
)

// luhn implements the check as defined in ISO/IEC 7812-1: the check digit completes the sum.
func luhn(digits string) bool {
	sum := 0
	for i := 0; i < len(digits)-1; i++ {
		d := int(digits[len(digits)-2-i] - '0')
		if i%2 == 0 {
			d = []int{0, 2, 4, 6, 8, 1, 3, 5, 7, 9}[d]
		}
		sum += d
	}
	return int(digits[len(digits)-1]-'0') == (10-sum%10)%10
}

// hasCardNumberByTrying tests every part of a string.
func hasCardNumberByTrying(text string) bool {
	for i := range len(text) {
		for end := i + 14; end <= min(len(text), i+19); end++ {
			digits := strings.NewReplacer(" ", "", "-", "").Replace(text[i:end])
			if cardForms.MatchString(text[i:end]) && luhn(digits) && beforeCard.MatchString(text[:i]) && afterCard.MatchString(text[end:]) &&
				!(iban.MatchString(text[:i]) && text[i+4] == ' ') {
				return true
			}
		}
	}
	return false
}

func TestCardNumbersAreFoundAsTryingEveryPartFindsThem(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 1))
	numbers := []string{"4111111111111111", "378282246310005", "30569309025904", "2223003122003222", "6011111111111117"}
	joints := []string{"", "", "", " ", "-", ".", "_", "a", "é", "0", "41", " 4111", "-4111 ", "DE89 ", " DE89 3000 "}
	found, missed := 0, 0
	for range 4_000 {
		var b strings.Builder
		b.WriteString(joints[r.IntN(len(joints))] + joints[r.IntN(len(joints))])
		for range 1 + r.IntN(2) {
			number := []byte(numbers[r.IntN(len(numbers))])
			if r.IntN(3) == 0 {
				number[r.IntN(len(number))] = byte('0' + r.IntN(10))
			}
			separator := []string{"", " ", "-"}[r.IntN(3)]
			groups := [][]int{{4, 4, 4, 4}, {4, 6, 5}, {4, 6, 4}, {4, 4, 8}}[r.IntN(4)]
			if len(number) == 16 && r.IntN(3) > 0 {
				groups = []int{4, 4, 4, 4}
			}
			for _, n := range groups {
				n = min(n, len(number))
				b.Write(number[:n])
				number = number[n:]
				if len(number) > 0 {
					b.WriteString(separator)
				}
				if r.IntN(30) == 0 {
					b.WriteString(joints[r.IntN(len(joints))])
				}
			}
			b.WriteString(joints[r.IntN(len(joints))] + joints[r.IntN(len(joints))])
		}
		text := b.String()
		want := hasCardNumberByTrying(text)
		require.Equal(t, want, HasCardNumber(text), "%q", text)
		if want {
			found++
		} else {
			missed++
		}
	}
	require.Greater(t, found, 500)
	require.Greater(t, missed, 500)
}

func BenchmarkHasCardNumber(b *testing.B) {
	text := []byte(strings.Repeat("GET /api/orders/7421/items?since=1767323045123456 ", 4) + "c54fc2d6-4111-1111-1111-1111aaaaaaaa")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if HasCardNumber(text) {
			b.Fatal("found a card number in a text without one")
		}
	}
}
