package evidence

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gowebpki/jcs"
)

// RecordSchema is the version of a violation record, as its field schema says. The
// JSON Schema is docs/schemas/violation.v1.json.
const RecordSchema = "betrace.dev/violation/v1"

// record is a violation as Loki holds it: a line of canonical JSON (RFC 8785).
// Numbers that JSON would round, and times, are texts.
type record struct {
	Schema      string       `json:"schema"`
	ID          string       `json:"violation_id"`
	Tenant      string       `json:"tenant"`
	Rule        recordRule   `json:"rule"`
	Severity    string       `json:"severity"`
	Controls    []string     `json:"controls"`
	Clause      string       `json:"clause"`
	Message     string       `json:"message"`
	Trace       recordTrace  `json:"trace"`
	About       []recordSpan `json:"about"`
	Sweep       string       `json:"sweep,omitempty"`
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

// Bounds on a record: the spans that it names, and its length. Loki takes 256 KiB a
// line, and refuses what is longer.
const (
	maxAbout       = 128
	maxRecordBytes = 200 << 10
)

// Record returns the violation's record: canonical JSON that depends on what was
// found only, not on when it is filed.
func (v *Violation) Record() ([]byte, error) {
	r := record{
		Schema: RecordSchema, ID: v.ID, Tenant: v.Tenant,
		Rule:     recordRule{ID: v.RuleID, Digest: v.RuleDigest, Pack: v.Pack, PackVersion: v.PackVersion, Title: v.Title},
		Severity: v.Severity, Controls: nonNil(v.Controls), Clause: v.Clause, Message: cut(v.Message),
		Trace: recordTrace{ID: v.TraceID.String(), Start: timeText(v.TraceStart.Time()), RootService: v.RootService, Services: nonNil(v.Services)},
		About: []recordSpan{}, Sweep: v.Sweep,
		Window:      recordWindow{Start: timeText(v.WindowStart), End: timeText(v.WindowEnd)},
		Provisional: v.Provisional, Engine: v.Engine,
	}
	for i, ref := range v.About {
		if i == maxAbout {
			break
		}
		r.About = append(r.About, recordSpan{ID: ref.ID.String(), Name: cut(ref.Name), Service: cut(ref.Service)})
	}
	for {
		plain, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("record of violation %s: %w", v.ID, err)
		}
		canonical, err := jcs.Transform(plain)
		if err != nil {
			return nil, fmt.Errorf("record of violation %s: %w", v.ID, err)
		}
		if len(canonical) <= maxRecordBytes || len(r.About)+len(r.Trace.Services) == 0 {
			return canonical, nil
		}
		// The last names go, as many as it takes.
		r.About, r.Trace.Services = r.About[:len(r.About)/2], r.Trace.Services[:len(r.Trace.Services)/2]
	}
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// labels are the labels of the stream that the record is filed in.
func (v *Violation) labels() string {
	return fmt.Sprintf(`{betrace_kind="violation", service_name="betrace", severity=%q}`, v.Severity)
}

// metadata is what Loki keeps beside the record.
func (v *Violation) metadata() [][2]string {
	return [][2]string{
		{"rule_id", v.RuleID}, {"trace_id", v.TraceID.String()}, {"violation_id", v.ID}, {"controls", strings.Join(v.Controls, ",")},
	}
}
