package packs_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// valueKind is a kind of values that are frequent in telemetry, and that no rule searches for.
type valueKind struct {
	name string
	make func(v *values) string
	// never means that no rule may match a value. Some values of the other kinds cannot be distinguished
	// from the values that a rule searches for; docs/packs.md lists them.
	never bool
	// asAddress means that the value may be in an attribute with the name or the address of a host.
	asAddress bool
	// only, if not empty, is the key of the attributes that contain only such values.
	only string
}

var valueKinds = []valueKind{
	{name: "UUIDs, version 4", make: func(v *values) string { return v.uuid(4, v.bytes(16)) }, never: true, asAddress: true},
	{name: "UUIDs, version 7", make: func(v *values) string { return v.uuid(7, append(v.millis(), v.bytes(10)...)) }, never: true, asAddress: true},
	{name: "ULIDs", make: (*values).ulid, never: true, asAddress: true},
	{name: "hex strings of 16 digits, a letter among them", make: func(v *values) string { return v.lettered(16) }, never: true, asAddress: true},
	{name: "hex strings of 32 digits", make: func(v *values) string { return v.hex(32) }, never: true, asAddress: true},
	{name: "hex strings of 40 digits", make: func(v *values) string { return v.hex(40) }, never: true, asAddress: true},
	{name: "hex strings of 64 digits", make: func(v *values) string { return v.hex(64) }, never: true, asAddress: true},
	{name: "versions", make: (*values).version, never: true},
	{name: "hashes", make: (*values).hash, never: true},
	{name: "private addresses", make: (*values).privateAddress, never: true, asAddress: true},
	{name: "host names of a cluster", make: (*values).clusterName, never: true, asAddress: true},
	{name: "traceparent headers", make: func(v *values) string { return "00-" + v.hex(32) + "-" + v.lettered(16) + "-0" + v.pick("0", "1") }, never: true},
	{name: "timestamps", make: (*values).timestamp, never: true},
	{name: "bank accounts (IBAN in groups)", make: (*values).iban, never: true},
	{name: "decimal numbers", make: func(v *values) string { return strconv.FormatFloat(v.Float64(), 'f', -1, 64) }, never: true},
	{name: "integers of 64 bits", make: func(v *values) string { return strconv.FormatUint(v.Uint64(), 10) }},
	{name: "numbers of 16 digits", make: func(v *values) string { return v.digits(16) }},
	{name: "hex strings of 16 digits", make: func(v *values) string { return v.hex(16) }, asAddress: true},
	{name: "order numbers", make: (*values).orderNumber},
	{name: "part numbers like 123-45-6789", make: func(v *values) string { return v.digits(3) + "-" + v.digits(2) + "-" + v.digits(4) }},
	{name: "telephone numbers", make: (*values).telephone},
	{name: "base64", make: (*values).base64},
	{name: "file names", make: (*values).fileName},
	{name: "paths of packages and repositories", make: (*values).packagePath},
	{name: "query texts with formats", make: (*values).query, only: "db.query.text", never: true},
}

// values generates random values. The same seed generates the same values.
type values struct{ *rand.Rand }

func (v *values) pick(of ...string) string { return of[v.IntN(len(of))] }

func (v *values) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(v.Uint32())
	}
	return b
}

func (v *values) of(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[v.IntN(len(alphabet))]
	}
	return string(b)
}

func (v *values) hex(n int) string    { return v.of("0123456789abcdef", n) }
func (v *values) digits(n int) string { return v.of("0123456789", n) }

// lettered returns a hex string that is not a decimal number.
func (v *values) lettered(n int) string {
	for {
		if s := v.hex(n); strings.ContainsAny(s, "abcdef") {
			return s
		}
	}
}

// time returns a time in the years 2024 to 2029.
func (v *values) time() time.Time {
	return time.Unix(1704067200+v.Int64N(6*365*24*3600), v.Int64N(1e9)).UTC()
}

func (v *values) millis() []byte {
	ms := v.time().UnixMilli()
	return []byte{byte(ms >> 40), byte(ms >> 32), byte(ms >> 24), byte(ms >> 16), byte(ms >> 8), byte(ms)}
}

func (v *values) uuid(version byte, b []byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b)
	s = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	if v.IntN(8) == 0 {
		s = strings.ToUpper(s)
	}
	return s
}

func (v *values) ulid() string {
	return "01" + v.of("HJKMNP", 1) + v.of("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 23)
}

func (v *values) version() string {
	n := func(max int) string { return strconv.Itoa(v.IntN(max)) }
	s := v.pick("", "v") + n(30) + "." + n(100) + "." + n(100)
	switch v.IntN(8) {
	case 0:
		s += v.pick("-alpha", "-beta", "-rc", "-SNAPSHOT", "-dev") + v.pick("", "."+n(10), n(10))
	case 1:
		s += "+" + v.pick("build.", "exp.sha.", "") + v.hex(7)
	case 2: // a pseudo-version of a Go module
		s = "v0.0.0-" + v.time().Format("20060102150405") + "-" + v.hex(12)
	case 3:
		s = v.time().Format("2006.01.02") + "." + n(100)
	case 4: // a file version with four parts
		s = n(100) + "." + n(100) + "." + n(30_000) + "." + n(3_000)
	}
	return s
}

func (v *values) hash() string {
	switch v.IntN(6) {
	case 0:
		return "sha256:" + v.hex(64)
	case 1:
		return "sha1-" + v.hex(40)
	case 2:
		return "$2b$12$" + v.of("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 53)
	case 3:
		return `W/"` + v.hex(8) + "-" + v.hex(12) + `"`
	case 4:
		return "sha384-" + base64.StdEncoding.EncodeToString(v.bytes(48))
	}
	return v.hex(7 + v.IntN(6))
}

// privateRanges are those of RFC 1918, 1122, 3927, 6598, 4193 and 4291.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128"),
}

func (v *values) privateAddress() string {
	in := privateRanges[v.IntN(len(privateRanges))]
	b := in.Addr().AsSlice()
	for i, r := range v.bytes(len(b)) {
		own := max(0, min(8, in.Bits()-8*i)) // bits of the range's prefix
		b[i] |= r & (0xff >> own)
	}
	a, _ := netip.AddrFromSlice(b)
	switch {
	case a.Is4() && v.IntN(4) == 0:
		return "::ffff:" + a.String()
	case a.Is6() && v.IntN(4) == 0:
		return a.StringExpanded()
	case a.Is6() && v.IntN(8) == 0:
		return "[" + a.String() + "]"
	case a.IsLinkLocalUnicast() && a.Is6() && v.IntN(4) == 0:
		return a.String() + "%eth" + v.digits(1)
	}
	return a.String()
}

func (v *values) clusterName() string {
	name := v.pick("stock", "payment", "db", "redis-0.redis", "llm") + v.pick("", "-"+v.hex(10)+"-"+v.of("bcdfghjklmnpqrstvwxz2456789", 5))
	return name + "." + v.pick("shop", "ml", "n"+v.digits(4)) + v.pick(".svc", ".svc.cluster.local", ".svc.cluster.local.", ".internal", ".corp", ".lan", ".home.arpa")
}

func (v *values) timestamp() string {
	t := v.time()
	switch v.IntN(8) {
	case 0:
		return strconv.FormatInt(t.Unix(), 10)
	case 1:
		return strconv.FormatInt(t.UnixMilli(), 10)
	case 2:
		return strconv.FormatInt(t.UnixMicro(), 10)
	case 3:
		return strconv.FormatInt(t.UnixNano(), 10)
	case 4:
		return t.Format("20060102150405")
	case 5:
		return t.Format("20060102150405") + v.digits(2)
	case 6:
		return t.Format("2006-01-02 15:04:05.000")
	}
	return t.Format(time.RFC3339Nano)
}

func (v *values) orderNumber() string {
	switch v.IntN(5) {
	case 0:
		return "ORD-" + v.time().Format("2006") + "-" + v.digits(6+v.IntN(4))
	case 1:
		return v.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 2) + v.digits(8+v.IntN(6))
	case 2:
		return v.digits(3) + "-" + v.digits(7) + "-" + v.digits(7)
	case 3:
		return v.of("123456789", 1) + v.digits(7+v.IntN(6))
	}
	return v.of("123456789", 1) + v.digits(14+v.IntN(6))
}

func (v *values) iban() string {
	number := v.digits(12 + v.IntN(10))
	var b strings.Builder
	b.WriteString(v.pick("DE", "FR", "ES", "IT", "CZ", "PL", "CH") + v.digits(2))
	for i, c := range number {
		if i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func (v *values) telephone() string {
	switch v.IntN(6) {
	case 0:
		return "+" + v.pick("1", "44", "49", "33", "86", "91", "36", "34") + v.digits(9+v.IntN(3))
	case 1:
		return "+1-" + v.digits(3) + "-" + v.digits(3) + "-" + v.digits(4)
	case 2:
		return "(" + v.digits(3) + ") " + v.digits(3) + "-" + v.digits(4)
	case 3:
		return "0" + v.digits(1) + "-" + v.digits(4) + "-" + v.digits(4)
	case 4:
		return "+49 " + v.digits(3) + " " + v.digits(4) + " " + v.digits(4)
	}
	return v.digits(3) + "." + v.digits(3) + "." + v.digits(4)
}

func (v *values) base64() string {
	b := v.bytes(6 + v.IntN(60))
	if v.IntN(2) == 0 {
		return base64.StdEncoding.EncodeToString(b)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func (v *values) fileName() string {
	name := v.pick("logo", "app", "main", "vendor~main", "user-menu", "IMG_"+v.time().Format("20060102_150405"), v.time().Format("2006-01-02")+"-report", v.digits(8), v.hex(8))
	if v.IntN(2) == 0 {
		name += v.pick(".", "-", "_") + v.hex(8+4*v.IntN(4))
	}
	extension := v.pick("css", "js", "js.map", "png", "svg", "woff2", "json", "html", "jpg", "webp", "pdf")
	if v.IntN(3) == 0 {
		name += v.pick("@2x", "@3x", "@1.5x", "@2x~ipad", "@dark", "@640w", "@64px", "@2x-"+v.hex(8), "@3X", "@dark.min")
		extension = v.pick("png", "jpg", "webp", "svg", "gif", "avif")
	}
	return v.pick("", "static/", "assets/img/", "_next/static/chunks/", "wp-content/uploads/"+v.time().Format("2006/01")+"/") + name + "." + extension
}

func (v *values) packagePath() string {
	switch v.IntN(5) {
	case 0:
		return v.pick("npm/", "gh/", "") + v.pick("vue", "@babel/core", "lodash", "bootstrap") + "@" + v.version() + "/dist/" + v.pick("index", "core.min", "a") + ".js"
	case 1:
		return v.pick("ssh%3A%2F%2F", "") + "git%40github.com%3Aacme%2F" + v.hex(6) + ".git"
	case 2:
		return "git@" + v.pick("github.com", "gitlab.example.com", "git.corp") + ":acme/" + v.hex(6) + ".git"
	case 3:
		return "registry.example.com/acme/app@sha256:" + v.hex(64)
	}
	return "@" + v.pick("ada", "user.name", "x.y") + "/" + v.digits(3+v.IntN(6))
}

// query returns a query string without literal values, in the dialect of PostgreSQL or MySQL.
func (v *values) query() string {
	column := func() string { return v.pick("created", "o.updated_at", `"day"`, "`note`", "lower(name)") }
	function := func() string {
		c := column()
		return v.pick(
			"to_char("+c+", 'YYYY-MM-DD')", "to_date(?, 'DD.MM.YYYY HH24:MI')", "coalesce("+c+", 'n/a')", "date_trunc('day', "+c+")", "ifnull("+c+", 'none')",
			"concat("+c+", ', ', "+c+")", "string_agg("+c+", ',' ORDER BY id)", "json_extract("+c+", '$.a.b')", c+"->>'key'", "to_timestamp(?, 'YYYY-MM-DD')",
			"regexp_replace("+c+", '[^0-9]+', '')", c+" AT TIME ZONE 'UTC'", "now() - interval '1 day'", "DATE_FORMAT("+c+", '%Y-%m')", "str_to_date(?, '%d.%m.%Y')", "replace("+c+", '-', '')",
		)
	}
	var q string
	switch v.IntN(4) {
	case 0:
		q = "SELECT " + function() + ", " + function() + " FROM orders o WHERE id = $1 AND " + function() + " > ?"
	case 1:
		q = "INSERT INTO orders (id, a, b) VALUES (?, " + function() + ", ?), (?, " + function() + ", $2)"
	case 2:
		q = "UPDATE orders SET a = " + function() + ", b = ? WHERE id IN (SELECT id FROM ids WHERE " + function() + " = ?)"
	default:
		q = "select " + column() + " from orders where id in (?, ?, ?) group by " + function() + " order by " + function()
	}
	switch v.IntN(4) {
	case 0:
		q += fmt.Sprintf(" /*db_driver='pg',route='%%2Forders',traceparent='00-%s-%s-01'*/", v.hex(32), v.hex(16))
	case 1:
		q = "/* request " + v.uuid(4, v.bytes(16)) + " */ " + q
	}
	return q
}
