package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/reading"
	"github.com/betracehq/betrace/deploy/stack"
)

// s3AgainstLocal compares reading a set from a real S3 server on this machine with reading it from its
// folder. The server uses the same cores.
func s3AgainstLocal(ctx context.Context, b *bench) (err error) {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	server, err := stack.Start(ctx, stack.Options{S3: true, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if err := upload(ctx, server.S3, data.Dir); err != nil {
		return err
	}
	for _, v := range server.S3.Env() {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	local, err := reading.Full(data)
	if err != nil {
		return err
	}
	remote := local
	remote.URL = server.S3.URL()
	var last reading.Result
	seconds, _, ratio, err := b.inTurn(ctx,
		func() (err error) {
			last, err = remote.All(ctx, data)
			return err
		},
		readAll(ctx, local, data))
	if err != nil {
		return err
	}
	b.progress("  %d requests for parts of %d blocks", last.BodyRequests, data.Blocks)
	b.print("s3_vs_local", ratio, "ratio")
	b.print("s3_spans_per_second", float64(data.Spans)/seconds, "spans/s")
	return nil
}

// upload copies the blocks of a set to a bucket.
func upload(ctx context.Context, bucket *stack.Bucket, dir string) error {
	client := bucket.Client()
	files, err := filepath.Glob(filepath.Join(dir, dataset.Tenant, "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range files {
		key, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		key = filepath.ToSlash(key)
		if err := put(ctx, client, bucket.Name, key, path); err != nil {
			return fmt.Errorf("upload %s: %w", key, err)
		}
	}
	return nil
}

func put(ctx context.Context, client *s3.Client, bucket, key, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: f})
	return err
}
