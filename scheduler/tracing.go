package scheduler

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// traced calls f in a span, which has its error.
func traced(ctx context.Context, tracer trace.Tracer, name string, f func(context.Context) error, about ...attribute.KeyValue) error {
	ctx, span := tracer.Start(ctx, name, trace.WithAttributes(about...))
	defer span.End()
	err := f(ctx)
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}
