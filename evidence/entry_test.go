package evidence_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
)

func newKey(t *testing.T) *evidence.Key {
	t.Helper()
	k, err := evidence.NewKey()
	require.NoError(t, err)
	return k
}

func tick() *evidence.Statement {
	zone := time.FixedZone("UTC+2", 2*3600)
	return &evidence.Statement{
		Kind: evidence.EntryTick, Tenant: "acme", Number: 2, Time: time.Date(2026, 3, 1, 14, 5, 0, 7, zone),
		Previous: strings.Repeat("ab", 32), Engine: "v1.2.3", Sweeps: []string{"all"},
		Results:    evidence.NewBlobRef([]byte("{}")),
		Violations: evidence.NewSetRef([][]byte{[]byte("a"), []byte("b")}),
		Coverage:   &evidence.CoverageRef{Rules: 3, From: time.Date(2026, 3, 1, 0, 0, 0, 0, zone), To: time.Date(2026, 3, 1, 13, 0, 0, 0, zone), Moved: true},
		Capped:     evidence.NewCappedRef([]evidence.CappedList{{Kind: evidence.CappedFound, Count: 7}, {Kind: evidence.CappedFound, Count: 2}, {Kind: evidence.CappedWithdrawn, Count: 1}}),
	}
}

func TestTraceIDsAreReadAsTheyWereListed(t *testing.T) {
	ids := []trace.ID{{15: 1}, {1}, {0xff, 15: 0xff}}
	text := evidence.EncodeTraceIDs(ids)
	require.Equal(t, "00000000000000000000000000000001\n01000000000000000000000000000000\nff0000000000000000000000000000ff\n", string(text))
	have, err := evidence.ParseTraceIDs(text)
	require.NoError(t, err)
	require.Equal(t, ids, have)
	for text, want := range map[string]string{
		"00000000000000000000000000000001":      "the last line does not end",
		"01\n":                                  `"01" is no trace ID`,
		strings.Repeat("x", 32) + "\n":          "is no trace ID",
		strings.Repeat("0", 34) + "\n":          "is no trace ID",
		string(text[33:66]) + string(text[:33]): "does not follow",
		string(text[:33]) + string(text[:33]):   "does not follow",
	} {
		_, err := evidence.ParseTraceIDs([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func event() *evidence.Statement {
	return &evidence.Statement{
		Kind: evidence.EntryEvent, Tenant: "acme", Number: 1, Time: time.Unix(1_800_000_000, 0), Engine: "v1.2.3",
		Event: &evidence.Event{Name: evidence.EventPackLoaded, Details: map[string]string{"pack": "payments"}},
	}
}

func TestAnEntryIsReadAsItWasSigned(t *testing.T) {
	k, other := newKey(t), newKey(t)
	for name, s := range map[string]*evidence.Statement{"tick": tick(), "event": event()} {
		t.Run(name, func(t *testing.T) {
			envelope, digest, err := s.Sign(k)
			require.NoError(t, err)
			require.Equal(t, evidence.EntryDigest(envelope), digest)
			again, _, err := s.Sign(k)
			require.NoError(t, err)
			require.Equal(t, string(envelope), string(again), "the same statement gives the same bytes")

			have, keyID, err := evidence.OpenEnvelope(envelope, other.Public(), k.Public())
			require.NoError(t, err)
			require.Equal(t, k.ID(), keyID)
			require.Empty(t, s.Schema, "the caller's statement is left as it is")
			want := *s
			want.Schema, want.Time = evidence.EntrySchema, s.Time.UTC()
			if s.Coverage != nil {
				want.Coverage = &evidence.CoverageRef{Rules: 3, From: s.Coverage.From.UTC(), To: s.Coverage.To.UTC(), Moved: true}
			}
			require.Equal(t, &want, have)

			_, keyID, err = evidence.OpenEnvelope(envelope, other.Public())
			require.ErrorContains(t, err, fmt.Sprintf("it is signed by the key %q, which is not among the 1 known keys", k.ID()))
			require.Equal(t, k.ID(), keyID)

			validate(t, "entry.v1", payload(t, envelope))
		})
	}
}

// payload returns the payload of an envelope, and checks that the envelope is in DSSE's form.
func payload(t *testing.T, envelope []byte) []byte {
	t.Helper()
	var e struct{ PayloadType, Payload string }
	require.NoError(t, json.Unmarshal(envelope, &e))
	require.Equal(t, "application/vnd.betrace.entry+json", e.PayloadType)
	content, err := base64.StdEncoding.DecodeString(e.Payload)
	require.NoError(t, err)
	return content
}

func TestAnyChangeOfAnEntryIsFound(t *testing.T) {
	k := newKey(t)
	statement := tick()
	statement.Sweeps = []string{"?????"} // in base64, this has a character that URLs' base64 does not have
	envelope, digest, err := statement.Sign(k)
	require.NoError(t, err)
	for i := range envelope {
		changed := append([]byte(nil), envelope...)
		changed[i] ^= 1
		require.NotEqual(t, digest, evidence.EntryDigest(changed))
		_, _, err := evidence.OpenEnvelope(changed, k.Public())
		require.Error(t, err, "byte %d", i)
	}
	for name, changed := range map[string]string{
		"a name in capitals":   strings.Replace(string(envelope), `"payload"`, `"PAYLOAD"`, 1),
		"a space":              strings.Replace(string(envelope), `,`, `, `, 1),
		"a line feed":          string(envelope) + "\n",
		"another brace":        string(envelope) + "}",
		"another bracket":      string(envelope) + "]",
		"a payload before":     `{"payload":"e30=",` + string(envelope[1:]),
		"URLs' base64":         strings.NewReplacer("+", "-", "/", "_").Replace(string(envelope)),
		"an escaped character": strings.Replace(string(envelope), `"sig"`, `"\u0073ig"`, 1),
	} {
		_, _, err := evidence.OpenEnvelope([]byte(changed), k.Public())
		require.Error(t, err, name)
	}
}

func TestTheSignatureIsThatOfDSSE(t *testing.T) {
	k := newKey(t)
	envelope, _, err := tick().Sign(k)
	require.NoError(t, err)
	var e struct {
		Signatures []struct {
			KeyID string
			Sig   []byte
		}
	}
	require.NoError(t, json.Unmarshal(envelope, &e))
	block, _ := pem.Decode([]byte(k.Public().PEM()))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	content := payload(t, envelope)
	signed := fmt.Appendf(nil, "DSSEv1 34 application/vnd.betrace.entry+json %d %s", len(content), content)
	require.True(t, ed25519.Verify(public.(ed25519.PublicKey), signed, e.Signatures[0].Sig))
	id := sha256.Sum256(block.Bytes)
	require.Equal(t, hex.EncodeToString(id[:8]), e.Signatures[0].KeyID)
}

func TestAnEnvelopeThatIsNoEntryIsRefused(t *testing.T) {
	k := newKey(t)
	file := newFileSigner(t, k)
	seal := func(payloadType, payload string, change func(*dsse.Envelope)) []byte {
		signer, err := dsse.NewEnvelopeSigner(file)
		require.NoError(t, err)
		e, err := signer.SignPayload(t.Context(), payloadType, []byte(payload))
		require.NoError(t, err)
		if change != nil {
			change(e)
		}
		text, err := json.Marshal(e)
		require.NoError(t, err)
		return text
	}
	valid, _, err := tick().Sign(k)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		envelope []byte
		want     string
	}{
		"no JSON":         {[]byte("hello"), "entry: invalid character"},
		"two values":      {append(slices.Clone(valid), '{'), "there is data after the JSON value"},
		"a brace":         {append(slices.Clone(valid), '}'), "there is data after the JSON value"},
		"another type":    {seal("text/plain", "{}", nil), `its payload type is "text/plain"`},
		"no signature":    {seal(evidence.EntryPayloadType, "{}", func(e *dsse.Envelope) { e.Signatures = nil }), "it has 0 signatures, not 1"},
		"no base64":       {seal(evidence.EntryPayloadType, "{}", func(e *dsse.Envelope) { e.Payload = "%" }), "unable to base64 decode payload"},
		"no signature's":  {seal(evidence.EntryPayloadType, "{}", func(e *dsse.Envelope) { e.Signatures[0].Sig = "%" }), "its signature: illegal base64"},
		"no statement":    {seal(evidence.EntryPayloadType, `{"schema":"betrace.dev/entry/v1","colour":"red"}`, nil), `its statement: json: unknown field "colour"`},
		"wrong statement": {seal(evidence.EntryPayloadType, `{"schema":"betrace.dev/entry/v2"}`, nil), `its schema is "betrace.dev/entry/v2"`},
		"other content":   {seal(evidence.EntryPayloadType, "{}", func(e *dsse.Envelope) { e.Payload = "e30K" }), fmt.Sprintf("its signature by the key %q is wrong", k.ID())},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := evidence.OpenEnvelope(tt.envelope, k.Public())
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// fileSigner signs any payload with the key in a file.
type fileSigner struct{ private ed25519.PrivateKey }

func newFileSigner(t *testing.T, k *evidence.Key) fileSigner {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, k.Save(path))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	block, _ := pem.Decode(content)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	return fileSigner{private.(ed25519.PrivateKey)}
}

func (s fileSigner) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(s.private, data), nil
}

// KeyID returns the ID as its definition says.
func (s fileSigner) KeyID() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(s.private.Public())
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8]), err
}

func TestAStatementThatIsInvalidIsNotSigned(t *testing.T) {
	for want, change := range map[string]func(*evidence.Statement){
		`its schema is "x"; only betrace.dev/entry/v1 can be read`:            func(s *evidence.Statement) { s.Schema = "x" },
		`its kind is "tock": want one of`:                                     func(s *evidence.Statement) { s.Kind = "tock" },
		"its number must be 1 or more":                                        func(s *evidence.Statement) { s.Number = 0 },
		"the first entry, and no other, has no digest of the entry before":    func(s *evidence.Statement) { s.Previous = "" },
		`"abc" is no SHA-256 in hexadecimal`:                                  func(s *evidence.Statement) { s.Previous = "abc" },
		`"AB" is no SHA-256 in hexadecimal`:                                   func(s *evidence.Statement) { s.Results.SHA256 = "AB" },
		`"root" is no SHA-256 in hexadecimal`:                                 func(s *evidence.Statement) { s.Violations.Root = "root" },
		"a set has 0 elements: leave an empty set out":                        func(s *evidence.Statement) { s.Violations.Count = 0 },
		"its time is missing":                                                 func(s *evidence.Statement) { s.Time = time.Time{} },
		"an event, and no other entry, has the field event":                   func(s *evidence.Statement) { s.Event = &evidence.Event{Name: "x"} },
		"an entry has results unless it is an event":                          func(s *evidence.Statement) { s.Results = nil },
		"the event has no name":                                               func(s *evidence.Statement) { *s = *event(); s.Event.Name = "" },
		"an event has no violations and no corrections":                       func(s *evidence.Statement) { *s = *event(); s.Violations = tick().Violations },
		"bytes, and at most 32768 are permitted: store the details as a blob": func(s *evidence.Statement) { s.Sweeps = []string{strings.Repeat("x", 25<<10)} },
		"sign entry 2 of tenant \"acme\": the entry has ":                     func(s *evidence.Statement) { s.Engine = strings.Repeat("x", 32<<10) },
		"its number must be 1 or more, and below 2^53":                        func(s *evidence.Statement) { s.Number = 1 << 53 },
	} {
		s := tick()
		change(s)
		_, _, err := s.Sign(newKey(t))
		require.ErrorContains(t, err, want)
	}
}

func TestTheRootOfASetIsThatOfItsMerkleTree(t *testing.T) {
	require.Nil(t, evidence.NewSetRef(nil))
	var lines [][]byte
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	for n := range int64(70) {
		line := fmt.Appendf(nil, "line %d", n)
		hashes, err := tlog.StoredHashes(n, line, reader)
		require.NoError(t, err)
		stored = append(stored, hashes...)
		lines = append(lines, line)
		want, err := tlog.TreeHash(n+1, reader)
		require.NoError(t, err)
		require.Equal(t, &evidence.SetRef{Count: int(n + 1), Root: hex.EncodeToString(want[:])}, evidence.NewSetRef(lines))
	}
}

func TestAKeyIsReadAsItWasSaved(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "key.pem")
	_, err := evidence.LoadKey(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	k := newKey(t)
	require.NoError(t, k.Save(path))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, files, 1, "the draft is removed")
	again, err := evidence.LoadKey(path)
	require.NoError(t, err)
	require.Equal(t, k, again)
	require.Regexp(t, "^[0-9a-f]{16}$", k.ID())

	require.ErrorContains(t, newKey(t).Save(path), "key.pem exists: give another file, or move it away")
	kept, err := evidence.LoadKey(path)
	require.NoError(t, err)
	require.Equal(t, k.ID(), kept.ID())

	public, err := evidence.ParsePublicKey(k.Public().PEM())
	require.NoError(t, err)
	require.Equal(t, k.Public(), public)
	require.Equal(t, k.ID(), public.ID())
}

func TestAFileThatIsNoKeyIsRefused(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(curve)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(curve.Public())
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "key.pem")
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for content, want := range map[string]string{
		"":                                     `it has no PEM block "PRIVATE KEY": use a key that "betrace keys new"`,
		newKey(t).Public().PEM():               `it has no PEM block "PRIVATE KEY"`,
		encode("PRIVATE KEY", []byte("hello")): "asn1: ",
		encode("PRIVATE KEY", private):         "it is a *ecdsa.PrivateKey: use an Ed25519 key",
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := evidence.LoadKey(path)
		require.ErrorContains(t, err, want)
	}
	for content, want := range map[string]string{
		"":                                    `it has no PEM block "PUBLIC KEY"`,
		encode("PUBLIC KEY", []byte("hello")): "asn1: ",
		encode("PUBLIC KEY", public):          "it is a *ecdsa.PublicKey: use an Ed25519 key",
	} {
		_, err := evidence.ParsePublicKey(content)
		require.ErrorContains(t, err, want)
	}
}

func TestResultsAreReadAsTheyWereEncoded(t *testing.T) {
	local := time.FixedZone("UTC+2", 2*3600)
	at := time.Date(2026, 3, 1, 14, 5, 0, 7, local)
	r := evidence.Results{
		Sweeps: []string{"all"}, Scheduled: at, Missed: 2, Listing: evidence.ListingResult{Began: at, Ended: at, Stable: true},
		Blocks:     []evidence.BlockResult{{ID: "b", Outcome: evidence.OutcomeJudged, Earliest: at, Latest: at, Traces: 1, Bytes: 2}, {ID: "c", Outcome: evidence.OutcomeAside, Reason: strings.Repeat("x", 5000)}},
		Traces:     evidence.TraceCounts{Seen: 3, Own: 1, Judged: 2, Spans: 9},
		Rules:      []evidence.RuleResult{{Pack: "p", Rule: "r", Error: 1, FirstError: "\xff"}},
		Violations: []evidence.LineRef{evidence.NewLineRef("v", []byte("line"))},
		Coverage:   []evidence.RuleCoverage{{Pack: "p", Rule: "r", From: at, Holes: 1}},
	}
	content, err := r.Encode()
	require.NoError(t, err)
	require.NotContains(t, string(content), "null")
	require.Equal(t, local, r.Blocks[0].Earliest.Location(), "the caller's results are left as they are")
	again, err := r.Encode()
	require.NoError(t, err)
	require.Equal(t, string(content), string(again))
	have, err := evidence.ParseResults(content)
	require.NoError(t, err)
	require.Equal(t, at.UTC(), have.Blocks[0].Earliest)
	require.True(t, have.Blocks[1].Earliest.IsZero())
	require.Less(t, len(have.Blocks[1].Reason), 2100)
	require.Equal(t, "\uFFFD", have.Rules[0].FirstError)
	round, err := have.Encode()
	require.NoError(t, err)
	require.Equal(t, string(content), string(round))

	_, err = evidence.ParseResults([]byte(strings.Replace(string(content), "results/v1", "results/v9", 1)))
	require.ErrorContains(t, err, `their schema is "betrace.dev/results/v9"`)
	_, err = evidence.ParseResults(content[1:])
	require.ErrorContains(t, err, "results: ")
}
