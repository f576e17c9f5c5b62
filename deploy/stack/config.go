package stack

import (
	"context"
	"embed"
	"fmt"
	"net"
	"strings"
	"text/template"
)

// Profile is a configuration of Tempo.
type Profile string

const (
	// Fast makes data searchable within seconds and removes limits.
	Fast Profile = "fast"
	// Default is an unchanged configuration: late data is hidden, and spans of a span set, traces and
	// bytes are limited.
	Default Profile = "default"
)

//go:embed tempo.yaml.tmpl loki.yaml.tmpl seaweedfs.json.tmpl
var templates embed.FS

// settings are the values for the templates.
type settings struct {
	Dir         string
	Fast        bool
	Multitenant bool
	FlushOnly   bool
	NoBlocks    bool
	Compacting  bool
	Dedicated   []attribute
	// Ports are free ports of 127.0.0.1.
	HTTP, GRPC, OTLPGRPC, OTLPHTTP, Gossip int
	// Ports are the ports above and further ones.
	Ports []int
	// S3 is the bucket where Tempo stores its blocks, if any.
	S3 *Bucket
}

// attribute is an attribute with a dedicated column.
type attribute struct{ Scope, Name string }

// parseDedicated parses Options.Dedicated.
func parseDedicated(list string) ([]attribute, error) {
	if list == "" {
		return nil, nil
	}
	var attributes []attribute
	for name := range strings.SplitSeq(list, ",") {
		scope, key, _ := strings.Cut(name, ".")
		if scope != "span" && scope != "resource" || key == "" {
			return nil, fmt.Errorf("stack: dedicated column %q: use span.<key> or resource.<key>", name)
		}
		attributes = append(attributes, attribute{scope, key})
	}
	return attributes, nil
}

func render(name string, s settings) (string, error) {
	t, err := template.ParseFS(templates, name)
	if err != nil {
		return "", fmt.Errorf("stack: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, s); err != nil {
		return "", fmt.Errorf("stack: %w", err)
	}
	return b.String(), nil
}

// freePorts returns n ports of 127.0.0.1 that are currently free.
func freePorts(ctx context.Context, n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("stack: find a free port: %w", err)
		}
		defer l.Close() // held until all ports are chosen, so that they differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
