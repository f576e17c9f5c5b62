package evidence

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/betracehq/betrace/trace"
)

// RecordSchema is the version of the violation records that are written, as their field
// schema holds it. The JSON Schema is docs/schemas/violation.v2.json.
const RecordSchema = "betrace.dev/violation/v2"

// recordSchemaV1 is the version before, docs/schemas/violation.v1.json, whose lines held
// the circumstances, too. It is read, and not written any more.
const recordSchemaV1 = "betrace.dev/violation/v1"

// record is a violation as Loki holds it: a line of canonical JSON (RFC 8785). It holds the
// finding, and nothing that depends on the run that made it. Times, and numbers that JSON
// would round, are strings.
type record struct {
	Schema   string       `json:"schema"`
	ID       string       `json:"violation_id"`
	Tenant   string       `json:"tenant"`
	Rule     recordRule   `json:"rule"`
	Severity string       `json:"severity"`
	Controls []string     `json:"controls"`
	Clause   string       `json:"clause"`
	Message  string       `json:"message"`
	Trace    recordTrace  `json:"trace"`
	About    []recordSpan `json:"about"`
}

// circumstancesV1 are the fields that only version 1 has.
type circumstancesV1 struct {
	Sweep       string       `json:"sweep"`
	Window      recordWindow `json:"window"`
	Provisional bool         `json:"provisional"`
	Engine      string       `json:"engine"`
}

type recordRule struct {
	ID          string `json:"id"`
	Digest      string `json:"digest"`
	Pack        string `json:"pack"`
	PackVersion string `json:"pack_version"`
	Title       string `json:"title"`
}

type recordTrace struct {
	ID          string   `json:"id"`
	Start       string   `json:"start"`
	RootService string   `json:"root_service"`
	Services    []string `json:"services"`
}

type recordSpan struct {
	ID      string `json:"span_id"`
	Name    string `json:"name"`
	Service string `json:"service"`
}

type recordWindow struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// MaxAbout bounds the spans in a record.
const MaxAbout = 128

// maxRecordBytes bounds the length of a record. Loki refuses lines over 256 KiB.
const maxRecordBytes = 200 << 10

// Record returns the violation's record: canonical JSON of the finding. The same trace,
// judged by the same pack, gives the same bytes.
func (v *Violation) Record() ([]byte, error) {
	r := record{
		Schema: RecordSchema, ID: v.ID, Tenant: v.Tenant,
		Rule:     recordRule{ID: v.RuleID, Digest: v.RuleDigest, Pack: v.Pack, PackVersion: v.PackVersion, Title: v.Title},
		Severity: v.Severity, Controls: present(v.Controls), Clause: v.Clause, Message: cut(v.Message),
		Trace: recordTrace{ID: v.TraceID.String(), Start: timeText(v.TraceStart.Time()), RootService: v.RootService, Services: present(v.Services)},
		About: []recordSpan{},
	}
	for i, ref := range v.About {
		if i == MaxAbout {
			break
		}
		r.About = append(r.About, recordSpan{ID: ref.ID.String(), Name: cut(ref.Name), Service: cut(ref.Service)})
	}
	for {
		line, err := canonical(&r)
		if err != nil {
			return nil, fmt.Errorf("record of violation %s: %w", v.ID, err)
		}
		if len(line) <= maxRecordBytes || len(r.About)+len(r.Trace.Services) == 0 {
			return line, nil
		}
		// Omit the last names until the record fits.
		r.About, r.Trace.Services = r.About[:len(r.About)/2], r.Trace.Services[:len(r.Trace.Services)/2]
	}
}

// ParseRecord parses a record of version 1 or 2. It does not set the root span, nor, for version 2, the
// circumstances.
func ParseRecord(line []byte) (Violation, error) {
	var r struct {
		record
		circumstancesV1
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return Violation{}, fmt.Errorf("violation record: %w", err)
	}
	if r.Schema != RecordSchema && r.Schema != recordSchemaV1 {
		return Violation{}, fmt.Errorf("violation record: its schema is %q; %s and %s can be read", r.Schema, RecordSchema, recordSchemaV1)
	}
	v := Violation{
		ID: r.ID, Tenant: r.Tenant, Pack: r.Rule.Pack, PackVersion: r.Rule.PackVersion,
		RuleID: r.Rule.ID, RuleDigest: r.Rule.Digest, Title: r.Rule.Title,
		Severity: r.Severity, Controls: r.Controls, Clause: r.Clause, Message: r.Message,
		RootService: r.Trace.RootService, Services: r.Trace.Services,
	}
	var errs [4]error
	v.TraceID, errs[0] = trace.ParseID(r.Trace.ID)
	var start time.Time
	if start, errs[1] = parseTime(r.Trace.Start); !start.IsZero() {
		v.TraceStart = trace.TimeOf(start)
	}
	for _, s := range r.About {
		ref := SpanRef{Name: s.Name, Service: s.Service}
		if n, err := hex.Decode(ref.ID[:], []byte(s.ID)); err != nil || n != len(ref.ID) {
			return Violation{}, fmt.Errorf("violation record %s: about: %q is no span ID", r.ID, s.ID)
		}
		v.About = append(v.About, ref)
	}
	if r.Schema == recordSchemaV1 {
		v.Sweep, v.Provisional, v.Engine = r.Sweep, r.Provisional, r.Engine
		v.WindowStart, errs[2] = parseTime(r.Window.Start)
		v.WindowEnd, errs[3] = parseTime(r.Window.End)
		if r.Sweep == string(OriginScan) { // all that version 1 ever named
			v.Origin, v.Sweep = OriginScan, ""
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return Violation{}, fmt.Errorf("violation record %s: %w", r.ID, err)
	}
	return v, nil
}

// parseTime is the inverse of timeText.
func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339Nano, text)
}

// Labels returns the labels of the stream that the record is filed in. Each has few values.
func (v *Violation) Labels() (string, error) {
	if !slices.Contains(origins, v.Origin) {
		return "", fmt.Errorf("violation %s: its origin is %q: want one of %q", v.ID, v.Origin, origins)
	}
	return labels("violation", &v.Circumstances, v.Severity), nil
}

// labels returns the labels of a stream. Only muted items have the label muted, so that muting leaves other streams as
// they are.
func labels(kind string, c *Circumstances, severity string) string {
	muted := ""
	if c.Muted {
		muted = `muted="true", `
	}
	return fmt.Sprintf(`{betrace_kind=%q, %sorigin=%q, service_name="betrace", severity=%q}`, kind, muted, c.Origin, severity)
}

// Metadata returns the structured metadata that Loki keeps beside the record.
func (v *Violation) Metadata() [][2]string {
	all := [][2]string{
		{"violation_id", v.ID}, {"trace_id", v.TraceID.String()}, {"pack", v.Pack}, {"rule_id", v.RuleID},
		{"controls", strings.Join(v.Controls, ",")}, {"window", timeText(v.WindowStart) + "/" + timeText(v.WindowEnd)},
		{"provisional", strconv.FormatBool(v.Provisional)}, {"engine", v.Engine}, {"sweep", v.Sweep}, {"job", v.Job}, {"entry", v.Entry},
	}
	return slices.DeleteFunc(all, func(m [2]string) bool { return m[1] == "" })
}
