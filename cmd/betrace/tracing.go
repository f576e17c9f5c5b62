package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace"
)

// tracingConfig controls the traces of the service about its own work.
type tracingConfig struct {
	OTLP   string
	Tenant string
	Sample float64
}

// tracesTimeout bounds the time in which the last traces are sent at the end.
const tracesTimeout = 5 * time.Second

func (c *tracingConfig) check() error {
	if c.Sample < 0 || c.Sample > 1 {
		return fmt.Errorf("tracing.sample is %g: want a number between 0 and 1", c.Sample)
	}
	return nil
}

// tracer returns the tracer of the service, which does nothing if no address is set, and a function that ends it.
func (c *tracingConfig) tracer(ctx context.Context, log *slog.Logger) (oteltrace.Tracer, func(context.Context) error, error) {
	if c.OTLP == "" {
		return nil, func(context.Context) error { return nil }, nil
	}
	headers := map[string]string{}
	if c.Tenant != "" {
		headers[tempoclient.TenantHeader] = c.Tenant
	}
	var client otlptrace.Client
	if strings.Contains(c.OTLP, "://") {
		client = otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(c.OTLP), otlptracehttp.WithHeaders(headers))
	} else {
		client = otlptracegrpc.NewClient(otlptracegrpc.WithEndpoint(c.OTLP), otlptracegrpc.WithInsecure(), otlptracegrpc.WithHeaders(headers))
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, nil, fmt.Errorf("tracing.otlp: %w", err)
	}
	about, err := resource.Merge(resource.Default(), resource.NewSchemaless(attribute.String("service.name", "betrace"), attribute.String("service.version", engineVersion())))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("tracing: %w", err), exporter.Shutdown(ctx))
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces of the service are lost", "error", err) }))
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(about), sdktrace.WithIDGenerator(internalIDs{}), sdktrace.WithSpanProcessor(internalIDs{}),
		sdktrace.WithSampler(sdktrace.TraceIDRatioBased(c.Sample)),
	)
	return provider.Tracer("github.com/betracehq/betrace"), provider.Shutdown, nil
}

// internalIDs gives spans IDs by which they are recognised as BeTrace's own, and the attribute for that.
type internalIDs struct{}

// NewIDs implements sdktrace.IDGenerator.
func (g internalIDs) NewIDs(ctx context.Context) (oteltrace.TraceID, oteltrace.SpanID) {
	id := oteltrace.TraceID(evidence.NewInternalTraceID())
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdktrace.IDGenerator.
func (internalIDs) NewSpanID(_ context.Context, id oteltrace.TraceID) oteltrace.SpanID {
	return oteltrace.SpanID(evidence.NewInternalSpanID(trace.ID(id)))
}

// OnStart implements sdktrace.SpanProcessor.
func (internalIDs) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	s.SetAttributes(attribute.String(evidence.AttrInternalID, evidence.InternalID(trace.ID(s.SpanContext().TraceID()), trace.SpanID(s.SpanContext().SpanID()))))
}

// OnEnd implements sdktrace.SpanProcessor.
func (internalIDs) OnEnd(sdktrace.ReadOnlySpan) {}

// Shutdown implements sdktrace.SpanProcessor.
func (internalIDs) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (internalIDs) ForceFlush(context.Context) error { return nil }
