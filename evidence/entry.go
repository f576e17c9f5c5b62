package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gowebpki/jcs"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// EntrySchema is the version of the statements of entries, as their field schema holds it. The JSON Schema is
// docs/schemas/entry.v1.json.
const EntrySchema = "betrace.dev/entry/v1"

// EntryPayloadType is the type of the payload of an entry's envelope.
const EntryPayloadType = "application/vnd.betrace.entry+json"

// MaxEntryBytes bounds the envelope of an entry.
const MaxEntryBytes = 32 << 10

// EntryKind is the kind of an entry.
type EntryKind string

// The kinds of entries.
const (
	// EntryTick is about the blocks that a tick of sweeps judged.
	EntryTick EntryKind = "tick"
	// EntryPart is about a part of a job, such as a backfill.
	EntryPart EntryKind = "part"
	// EntryCoverage states the coverage at a time at which nothing was judged.
	EntryCoverage EntryKind = "coverage"
	// EntryEvent is about a change of the service, such as a loaded pack.
	EntryEvent EntryKind = "event"
)

var entryKinds = []EntryKind{EntryTick, EntryPart, EntryCoverage, EntryEvent}

// The names of events.
const (
	EventPackLoaded   = "pack_loaded"
	EventPackRemoved  = "pack_removed"
	EventPackRefused  = "pack_refused" // or some of its rules
	EventConfigLoaded = "config_loaded"
	EventSweepPaused  = "sweep_paused"
	EventSweepResumed = "sweep_resumed"
	EventRuleMuted    = "rule_muted"
	EventRuleUnmuted  = "rule_unmuted"
	EventKeyAdded     = "key_added"
	EventKeyRetired   = "key_retired"
	EventKeyLost      = "key_lost"
)

// Statement is the content of an entry. An entry is a statement in a signed DSSE envelope, and each entry of a tenant
// contains the digest of the one before, so that none can be changed or left out unnoticed.
type Statement struct {
	// Schema is [EntrySchema]. [Statement.Sign] sets it if it is empty.
	Schema string    `json:"schema"`
	Kind   EntryKind `json:"kind"`
	Tenant string    `json:"tenant"`
	// Number counts the entries of the tenant, from 1.
	Number int64     `json:"number"`
	Time   time.Time `json:"time"`
	// Previous is the [EntryDigest] of the entry before. It is empty for number 1.
	Previous string `json:"previous"`
	// Engine is the version of BeTrace.
	Engine string `json:"engine"`
	// Sweeps are the names of the sweeps that made the entry.
	Sweeps []string `json:"sweeps,omitempty"`
	// Results refers to the [Results]. It is nil for events.
	Results *BlobRef `json:"results,omitempty"`
	// Violations and Corrections are nil if there are none.
	Violations  *SetRef `json:"violations,omitempty"`
	Corrections *SetRef `json:"corrections,omitempty"`
	// Coverage is nil if the entry does not concern coverage.
	Coverage *CoverageRef `json:"coverage,omitempty"`
	// Canaries counts the canaries and seeded violations that were looked for. It is nil if there are none.
	Canaries *CanaryRef `json:"canaries,omitempty"`
	// Capped counts the violations that are not kept in full. It is nil if there are none.
	Capped *CappedRef `json:"capped,omitempty"`
	// Event is set for events only.
	Event *Event `json:"event,omitempty"`
}

// BlobRef refers to content that is stored elsewhere.
type BlobRef struct {
	// SHA256 is the digest of the content, in hexadecimal.
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// NewBlobRef returns the reference to the content.
func NewBlobRef(content []byte) *BlobRef {
	return &BlobRef{SHA256: digestOf(content), Bytes: int64(len(content))}
}

// CoverageRef summarises the coverage of the rules of a ledger.
type CoverageRef struct {
	// Rules is the number of rules.
	Rules int `json:"rules"`
	// From is the earliest begin, and To the earliest watermark, of all rules.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Moved reports that To is later than in the entry before.
	Moved bool `json:"moved"`
}

// CanaryRef counts the traces that were written to be found again. Late ones were missed by an earlier entry.
type CanaryRef struct {
	Found  int `json:"found"`
	Late   int `json:"late"`
	Missed int `json:"missed"`
}

// NewCanaryRef counts canaries. It returns nil if there are none.
func NewCanaryRef(canaries []CanaryResult) *CanaryRef {
	if len(canaries) == 0 {
		return nil
	}
	var ref CanaryRef
	for _, c := range canaries {
		switch c.Outcome {
		case CanaryFound:
			ref.Found++
		case CanaryLate:
			ref.Late++
		default:
			ref.Missed++
		}
	}
	return &ref
}

// Event is a change of the service.
type Event struct {
	Name string `json:"name"`
	// Details are names and digests of packs, sweeps and keys. An entry is never erased, so they contain no names of
	// people and no text that people wrote.
	Details map[string]string `json:"details,omitempty"`
}

// EntryName returns the name of an entry in records and spans. The instance identifies the state that numbers the
// entries.
func EntryName(instance string, number int64) string { return fmt.Sprintf("%s-%d", instance, number) }

// EntryDigest returns the SHA-256 of an envelope, in hexadecimal.
func EntryDigest(envelope []byte) string { return digestOf(envelope) }

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// Sign returns the entry: the envelope with the statement, signed by the key, as canonical JSON (RFC 8785), and its
// digest. It refuses a statement that is invalid or too large.
func (s *Statement) Sign(k *Key) (envelope []byte, digest string, err error) {
	c := *s
	if c.Schema == "" {
		c.Schema = EntrySchema
	}
	c.Time = c.Time.UTC()
	if c.Coverage != nil {
		coverage := *c.Coverage
		coverage.From, coverage.To = coverage.From.UTC(), coverage.To.UTC()
		c.Coverage = &coverage
	}
	if err := c.check(); err != nil {
		return nil, "", fmt.Errorf("sign entry %d of tenant %q: %w", s.Number, s.Tenant, err)
	}
	payload, err := canonical(&c)
	if err != nil {
		return nil, "", fmt.Errorf("sign entry %d of tenant %q: %w", s.Number, s.Tenant, err)
	}
	signature := ed25519.Sign(k.private, dsse.PAE(EntryPayloadType, payload))
	envelope, err = seal(payload, signature, k.ID())
	if err != nil {
		return nil, "", fmt.Errorf("sign entry %d of tenant %q: %w", s.Number, s.Tenant, err)
	}
	if len(envelope) > MaxEntryBytes {
		return nil, "", fmt.Errorf("sign entry %d of tenant %q: the entry has %d bytes, and at most %d are permitted: store the details as a blob", s.Number, s.Tenant, len(envelope), MaxEntryBytes)
	}
	return envelope, EntryDigest(envelope), nil
}

// seal returns the envelope of a payload as canonical JSON (RFC 8785).
func seal(payload, signature []byte, keyID string) ([]byte, error) {
	return canonical(&dsse.Envelope{
		PayloadType: EntryPayloadType,
		Payload:     base64.StdEncoding.EncodeToString(payload),
		Signatures:  []dsse.Signature{{KeyID: keyID, Sig: base64.StdEncoding.EncodeToString(signature)}},
	})
}

// OpenEnvelope returns the statement in an envelope that one of the keys signed, and the ID of that key. It accepts
// only the bytes that [Statement.Sign] returned: the same statement in another JSON or base64 has another digest, and
// is refused.
func OpenEnvelope(envelope []byte, keys ...PublicKey) (s *Statement, keyID string, err error) {
	var e dsse.Envelope
	if err := strictJSON(envelope, &e); err != nil {
		return nil, "", fmt.Errorf("entry: %w", err)
	}
	if e.PayloadType != EntryPayloadType {
		return nil, "", fmt.Errorf("entry: its payload type is %q, not %q", e.PayloadType, EntryPayloadType)
	}
	if len(e.Signatures) != 1 {
		return nil, "", fmt.Errorf("entry: it has %d signatures, not 1", len(e.Signatures))
	}
	payload, err := e.DecodeB64Payload()
	if err != nil {
		return nil, "", fmt.Errorf("entry: %w", err)
	}
	keyID = e.Signatures[0].KeyID
	i := slices.IndexFunc(keys, func(k PublicKey) bool { return k.id == keyID })
	if i < 0 {
		return nil, keyID, fmt.Errorf("entry: it is signed by the key %q, which is not among the %d known keys", keyID, len(keys))
	}
	signature, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	if err != nil {
		return nil, keyID, fmt.Errorf("entry: its signature: %w", err)
	}
	if !ed25519.Verify(keys[i].key, dsse.PAE(EntryPayloadType, payload), signature) {
		return nil, keyID, fmt.Errorf("entry: its signature by the key %q is wrong", keyID)
	}
	s = &Statement{}
	if err := strictJSON(payload, s); err != nil {
		return nil, keyID, fmt.Errorf("entry: its statement: %w", err)
	}
	if err := s.check(); err != nil {
		return nil, keyID, fmt.Errorf("entry %d of tenant %q: %w", s.Number, s.Tenant, err)
	}
	// The keys of DSSE's and of the statement's JSON are matched regardless of case, and base64 has unused bits.
	samePayload, err := canonical(s)
	if err != nil {
		return nil, keyID, fmt.Errorf("entry %d of tenant %q: %w", s.Number, s.Tenant, err)
	}
	sameEnvelope, err := seal(samePayload, signature, keyID)
	if err != nil {
		return nil, keyID, fmt.Errorf("entry %d of tenant %q: %w", s.Number, s.Tenant, err)
	}
	if !bytes.Equal(sameEnvelope, envelope) {
		return nil, keyID, fmt.Errorf("entry %d of tenant %q: it is not in the form in which it was signed: read it from an unchanged copy", s.Number, s.Tenant)
	}
	return s, keyID, nil
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check reports the first field that is invalid.
func (s *Statement) check() error {
	digests := []string{}
	if s.Previous != "" {
		digests = append(digests, s.Previous)
	}
	if s.Results != nil {
		digests = append(digests, s.Results.SHA256)
	}
	for _, set := range []*SetRef{s.Violations, s.Corrections} {
		if set != nil {
			digests = append(digests, set.Root)
			if set.Count < 1 {
				return fmt.Errorf("a set has %d elements: leave an empty set out", set.Count)
			}
		}
	}
	for _, d := range digests {
		if !hexDigest.MatchString(d) {
			return fmt.Errorf("%q is no SHA-256 in hexadecimal", d)
		}
	}
	switch {
	case s.Schema != EntrySchema:
		return fmt.Errorf("its schema is %q; only %s can be read", s.Schema, EntrySchema)
	case !slices.Contains(entryKinds, s.Kind):
		return fmt.Errorf("its kind is %q: want one of %q", s.Kind, entryKinds)
	case s.Number < 1 || s.Number >= 1<<53:
		return errors.New("its number must be 1 or more, and below 2^53")
	case (s.Number == 1) != (s.Previous == ""):
		return errors.New("the first entry, and no other, has no digest of the entry before")
	case s.Time.IsZero():
		return errors.New("its time is missing")
	case (s.Kind == EntryEvent) != (s.Event != nil):
		return errors.New("an event, and no other entry, has the field event")
	case s.Event != nil && s.Event.Name == "":
		return errors.New("the event has no name")
	case s.Event != nil && (s.Violations != nil || s.Corrections != nil || s.Capped != nil):
		return errors.New("an event has no violations and no corrections")
	case (s.Kind == EntryEvent) != (s.Results == nil):
		return errors.New("an entry has results unless it is an event")
	}
	return nil
}

// canonical returns a value as canonical JSON (RFC 8785).
func canonical(value any) ([]byte, error) {
	plain, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(plain)
}

// strictJSON decodes one JSON value, and refuses unknown fields and further data.
func strictJSON(text []byte, value any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(value); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is data after the JSON value")
	}
	return nil
}

// StatementLabels returns the labels of the stream that entries are filed in.
func StatementLabels() string {
	return `{betrace_kind="statement", origin="sweep", service_name="betrace"}`
}

// StatementMetadata returns the structured metadata that Loki keeps beside the envelope of an entry.
func StatementMetadata(entryName, kind string, sweeps []string) [][2]string {
	all := [][2]string{{"entry", entryName}, {"kind", kind}, {"sweep", strings.Join(sweeps, ",")}}
	return slices.DeleteFunc(all, func(m [2]string) bool { return m[1] == "" })
}
