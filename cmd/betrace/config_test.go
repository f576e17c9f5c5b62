package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient"
)

// loaded returns the configuration of a file.
func loaded(t *testing.T, file string) *config {
	t.Helper()
	c := newConfig()
	c.file = filepath.Join(t.TempDir(), "betrace.yaml")
	require.NoError(t, os.WriteFile(c.file, []byte(file), 0o600))
	require.NoError(t, c.load(pflag.NewFlagSet("", pflag.ContinueOnError)))
	return c
}

func TestEveryFieldOfTheConfigurationHasASetting(t *testing.T) {
	c := newConfig()
	bound := map[any]bool{}
	for _, s := range c.settings() {
		require.False(t, bound[s.field], s.key)
		bound[s.field] = true
	}
	computed := map[string]bool{"Depths": true, "AllEvents": true, "AllLinks": true} // of lang.Sizes
	fields := 0
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for field, at := range v.Fields() {
			switch {
			case !field.IsExported() || computed[field.Name]:
			case at.Kind() == reflect.Struct:
				walk(at)
			default:
				require.True(t, bound[at.Addr().Interface()], field.Name)
				fields++
			}
		}
	}
	walk(reflect.ValueOf(c).Elem())
	require.Len(t, bound, fields)
}

func TestEveryKeyOfASweepHasASetting(t *testing.T) {
	sweep := newSweep()
	bound := map[any]string{}
	for _, s := range sweep.settings() {
		bound[s.field] = s.key
	}
	fields := 0
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for field, at := range v.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if at.Kind() == reflect.Struct {
				walk(prefix+key+".", at)
				continue
			}
			require.Equal(t, prefix+key, bound[at.Addr().Interface()], field.Name)
			fields++
		}
	}
	walk("", reflect.ValueOf(&sweep).Elem())
	require.Len(t, bound, fields)
}

func TestEachServerHasItsOwnCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("s3cret\n"), 0o600))
	c := loaded(t, "tenant: acme\ntempo: {bearer_token_file: "+file+"}\nloki: {user: u, password_file: "+file+"}\n")
	tempo, err := c.access("tempo", &c.Tempo.Access)
	require.NoError(t, err)
	require.Equal(t, tempoclient.Access{Tenant: "acme", BearerTokenFile: file}, tempo)
	loki, err := c.access("loki", &c.Loki.Access)
	require.NoError(t, err)
	require.Equal(t, tempoclient.Access{Tenant: "acme", User: "u", PasswordFile: file}, loki)
}

func TestHeadersAreReadFromTheEnvironment(t *testing.T) {
	t.Setenv("BETRACE_LOKI_HEADERS", `{"X-Cell": "a", "X-Team": "sre, shop"}`)
	require.Equal(t, map[string]string{"X-Cell": "a", "X-Team": "sre, shop"}, loaded(t, "tenant: acme").Loki.Access.Headers)
}

func TestErrorsDoNotShowSecrets(t *testing.T) {
	load := func(file string) error {
		c := newConfig()
		c.file = filepath.Join(t.TempDir(), "betrace.yaml")
		require.NoError(t, os.WriteFile(c.file, []byte(file), 0o600))
		return c.load(pflag.NewFlagSet("", pflag.ContinueOnError))
	}
	require.EqualError(t, load("loki: {password: 4711}"), "configuration: loki.password is <hidden>: want a string")
	require.EqualError(t, load("loki: {headers: {x-token: 4711}}"), "configuration: loki.headers is <hidden>: x-token is <hidden>: want a string")
	t.Setenv("BETRACE_LOKI_HEADERS", "X-Token: 4711")
	require.EqualError(t, load(""), `configuration: loki.headers is <hidden>: want keys with strings; in an environment variable a JSON object, as {"X-Name": "value"}`)
}

func TestSpansGoToTemposHostAsSafelyAsTempoIsRead(t *testing.T) {
	for _, tt := range []struct {
		file, addr string
		plain      bool
	}{
		{"tempo: {url: 'https://tempo.example:3200'}", "tempo.example:4317", false},
		{"tempo: {url: 'http://tempo:3200'}", "tempo:4317", true},
		{"tempo: {url: 'https://tempo.example', otlp: 'collector:4317'}", "collector:4317", false},
		{"tempo: {url: 'http://[::1]:3200'}", "[::1]:4317", true},
	} {
		writer, err := loaded(t, tt.file).otlpWriter()
		require.NoError(t, err)
		require.Equal(t, tt.addr, writer.Addr, tt.file)
		require.Equal(t, tt.plain, writer.Access.PlainText, tt.file)
	}
}
