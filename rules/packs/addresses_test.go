package packs_test

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
)

// expressions returns when and the clauses of a rule.
func expressions(r *rules.Rule) []*lang.Expression {
	when, clauses := r.WhenAndClauses()
	var all []*lang.Expression
	if when != nil {
		all = append(all, when)
	}
	for _, c := range clauses {
		all = append(all, c.Expression)
	}
	return all
}

// addressPatterns returns the patterns that rules apply to server.address, by rule. The first selects
// names with dots and addresses, the second those that are not public.
func addressPatterns(t *testing.T) (dotted, private map[string]string) {
	dotted, private = map[string]string{}, map[string]string{}
	each(t, func(t *testing.T, r *rules.Rule) {
		for _, x := range expressions(r) {
			ast.PreOrderVisit(x.Root(), ast.NewExprVisitor(func(e ast.Expr) {
				if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "matches" {
					return
				}
				if a, _, ok := x.Attribute(e.AsCall().Target()); !ok || a.Key != "server.address" {
					return
				}
				pattern := string(e.AsCall().Args()[0].AsLiteral().(types.String))
				if strings.Contains(pattern, "192") {
					private[r.ID] = pattern
				} else {
					dotted[r.ID] = pattern
				}
			}))
		}
	})
	return dotted, private
}

func TestAllPacksAgreeOnPrivateAddresses(t *testing.T) {
	dotted, private := addressPatterns(t)
	require.Len(t, private, 4)
	require.Len(t, dotted, 4)
	for id, pattern := range private {
		require.Equal(t, private["outbound-http-is-encrypted"], pattern, id)
		require.Equal(t, dotted["outbound-http-is-encrypted"], dotted[id], id)
	}
	isDotted := regexp.MustCompile(dotted["outbound-http-is-encrypted"])
	isPrivate := regexp.MustCompile(private["outbound-http-is-encrypted"])
	isPublic := func(address string) bool { return isDotted.MatchString(address) && !isPrivate.MatchString(address) }

	for _, address := range []string{
		"stock", "localhost", "app.localhost", "stock.shop.svc", "stock.shop.svc.cluster.local", "stock.shop.svc.cluster.local.", "DB.CORP", "printer.lan",
		"vault.internal", "metadata.google.internal", "fritz.home.arpa", "wiki.intranet", "/var/run/docker.sock", "stock:8080",
		"10.0.0.7", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "100.127.255.255",
		"::1", "0:0:0:0:0:0:0:1", "[::1]", "fd12:3456:789a::1", "fc00::7", "FD00::1", "fe80::1%eth0", "fe80:0:0:0:1:2:3:4%2", "febf::1",
		"::ffff:10.1.2.3", "[::ffff:192.168.0.9]", "0:0:0:0:0:ffff:127.0.0.1",
	} {
		require.False(t, isPublic(address), address)
	}
	for _, address := range []string{
		"api.example.com", "10.example.com", "192.168.example.com", "internal.example.com", "svc.example.org", "corp.example", "local.de", "example.localnews",
		"8.8.8.8", "172.15.0.1", "172.32.0.1", "192.169.0.1", "100.63.255.255", "100.128.0.0", "169.253.0.1", "11.0.0.1", "110.0.0.1",
		"2001:db8::1", "2a00:1450:4001::200e", "fe00::1", "fec0::1", "fb00::1", "::ffff:8.8.8.8", "[2606:4700::1111]", "64:ff9b::10.0.0.1", "::2",
	} {
		require.True(t, isPublic(address), address)
	}

	// The ranges of the RFCs as implemented by net/netip, and 100.64.0.0/10 (RFC 6598).
	shared := netip.MustParsePrefix("100.64.0.0/10")
	isInternal := func(a netip.Addr) bool {
		a = a.Unmap()
		return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || shared.Contains(a)
	}
	r := rand.New(rand.NewPCG(18, 1))
	begins := []string{"10.0.0.0", "127.0.0.0", "100.64.0.0", "169.254.0.0", "172.16.0.0", "192.168.0.0", "fc00::", "fe80::", "::1", "2001:db8::"}
	seen := map[bool]int{}
	for range 50_000 {
		a := netip.MustParseAddr(begins[r.IntN(len(begins))])
		bytes := a.AsSlice()
		for range 1 + r.IntN(3) { // often near a range
			i := r.IntN(len(bytes))
			bytes[i] = byte(r.Uint32())
			if r.IntN(3) == 0 {
				bytes[min(1, i)] ^= 1 << r.IntN(8)
			}
		}
		a, _ = netip.AddrFromSlice(bytes)
		for _, form := range []string{a.String(), "[" + a.String() + "]"} {
			require.Equal(t, isInternal(a), !isPublic(form), form)
		}
		if a.Is4() {
			require.Equal(t, isInternal(a), !isPublic("::ffff:"+a.String()), a)
		} else {
			require.Equal(t, isInternal(a), !isPublic(a.StringExpanded()), a)
		}
		seen[isInternal(a)]++
	}
	require.Greater(t, seen[true], 5_000)
	require.Greater(t, seen[false], 5_000)
}
