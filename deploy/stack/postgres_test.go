package stack

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// query returns the value of a query, as a text.
func (p *Postgres) query(t *testing.T, query string) string {
	t.Helper()
	config, err := pgx.ParseConfig(p.URL)
	require.NoError(t, err)
	config.Password = p.Password
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var value string
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&value))
	return value
}

func TestPostgresListensOnLoopbackAndIsDurable(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a real server: run without -short")
	}
	t.Setenv(postgresEnv, "")
	s := startStack(t, Options{Postgres: true})
	p := s.Postgres
	require.Equal(t, "127.0.0.1", p.query(t, `SHOW listen_addresses`))
	require.Equal(t, "", p.query(t, `SHOW unix_socket_directories`))
	require.Equal(t, "on", p.query(t, `SHOW fsync`))
	require.Equal(t, "on", p.query(t, `SHOW synchronous_commit`))
	require.NotContains(t, p.URL, p.Password)
	require.Equal(t, []string{"PGPASSWORD=" + p.Password}, p.Env())
	wrong := Postgres{URL: p.URL, Password: "wrong"}
	require.False(t, wrong.answers(t.Context()))

	// A client that stays connected does not delay the end.
	config, err := pgx.ParseConfig(p.URL)
	require.NoError(t, err)
	config.Password = p.Password
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	folders := s.folders
	began := time.Now()
	require.NoError(t, s.Stop())
	require.Less(t, time.Since(began), grace)
	require.Error(t, conn.Ping(t.Context()))
	for _, dir := range folders {
		require.NoDirExists(t, dir)
	}
}

func TestRunningPostgresIsUsed(t *testing.T) {
	t.Setenv(postgresEnv, "postgres://me:secret@db.example:5433/test?sslmode=disable")
	s, err := Start(t.Context(), Options{Postgres: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Stop()) }()
	require.False(t, s.Started())
	require.Equal(t, &Postgres{URL: "postgres://me@db.example:5433/test?sslmode=disable", Password: "secret"}, s.Postgres)
	built, err := BuildPostgres(t.Context(), os.Stderr)
	require.NoError(t, err)
	require.Equal(t, s.Postgres.URL, built)

	t.Setenv(postgresEnv, "postgres://db.example/test")
	p, err := runningPostgres()
	require.NoError(t, err)
	require.Empty(t, p.Env())
	for _, wrong := range []string{"db.example:5432", "http://db.example", "postgres://me:sec%ret@db.example"} {
		t.Setenv(postgresEnv, wrong)
		_, err := Start(t.Context(), Options{Postgres: true})
		require.EqualError(t, err, "stack: BETRACE_TEST_POSTGRES is no URL of a PostgreSQL: write it as postgres://user:password@host:port/database")
		_, err = BuildPostgres(t.Context(), os.Stderr)
		require.Error(t, err)
	}
}

func TestNewestPostgresIsTheHighestVersion(t *testing.T) {
	dir := t.TempDir()
	require.Empty(t, newestPostgres(dir))
	for _, version := range []string{"9.6", "15", "9", "17"} {
		bin := filepath.Join(dir, version, "bin")
		require.NoError(t, os.MkdirAll(bin, 0o755))
		if version != "17" { // only a client
			require.NoError(t, os.WriteFile(filepath.Join(bin, "initdb"), nil, 0o755))
		}
	}
	require.Equal(t, filepath.Join(dir, "15", "bin"), newestPostgres(dir))
}

func TestReleaseOfTheSystemNamesTheCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "os-release")
	require.NoError(t, os.WriteFile(file, []byte("PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nID=debian\nID_LIKE=x\n"), 0o600))
	name, err := releaseName(file)
	require.NoError(t, err)
	require.Equal(t, "debian-12", name)
	_, err = releaseName(file + "x")
	require.Error(t, err)
}

func TestMissingLibrariesAreFetchedWithPostgres(t *testing.T) {
	tree := "postgresql\n  Depends: postgresql-15\npostgresql-15\n |Depends: locales\n  Depends: libpq5\n<virtual>\nlocales\npostgresql-client-15\npostgresql-common\n" +
		"libc6\nlibllvm14\nlibpq5\nlibssl3\nlibxml2\nlibjson-perl\nlibperl5.36\nlibc6:i386\nperl\n"
	installed := "libssl3 installed\nlibxml2 config-files\npostgresql-15 installed\n"
	require.Equal(t, []string{"postgresql-15", "postgresql-client-15", "libpq5", "libxml2"}, wantedPackages(tree, installed))
}

// fakeDebian makes apt-get and the like scripts that log their arguments, and returns the folder of the cache.
func fakeDebian(t *testing.T, scripts map[string]string) (cache string) {
	t.Helper()
	bin := t.TempDir()
	for name, script := range scripts {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script), 0o755))
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	cache = t.TempDir()
	t.Setenv("BETRACE_STACK_CACHE", cache)
	return cache
}

func TestPostgresIsFetchedOnce(t *testing.T) {
	scripts := map[string]string{
		"apt-get":    `case "$*" in *update) ;; *download*) for p in postgresql-15 libpq5; do case "$*" in *$p*) touch "$p.deb";; esac; done;; esac`,
		"apt-cache":  `printf 'postgresql-15\nlibpq5\nlibssl3\n'`,
		"dpkg-query": `echo libssl3 installed`,
		"dpkg-deb":   `d="$3/usr/lib/postgresql/15"; mkdir -p "$d/bin" "$d/lib"; touch "$d/bin/initdb" "$d/lib/llvmjit.so"; touch "$3/$(basename "$2")"`,
	}
	fakeDebian(t, scripts)
	var log strings.Builder
	programs, err := fetchPostgres(t.Context(), &log)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(programs.root, "usr/lib/postgresql/15/bin"), programs.bin)
	require.FileExists(t, filepath.Join(programs.root, "libpq5.deb"))
	require.NoDirExists(t, filepath.Join(programs.root, "apt"))
	require.NoFileExists(t, filepath.Join(programs.root, "usr/lib/postgresql/15/lib/llvmjit.so"))
	require.Equal(t, "fetching Debian's packages of PostgreSQL (once, about a minute)\n", log.String())

	t.Setenv("PATH", "/usr/bin:/bin")
	again, err := fetchPostgres(t.Context(), &log)
	require.NoError(t, err)
	require.Equal(t, programs, again)
	require.NoError(t, os.RemoveAll(programs.bin))
	_, err = fetchPostgres(t.Context(), &log)
	require.ErrorContains(t, err, "has no PostgreSQL: remove it")

	for program, want := range map[string]string{"apt-get": "update", "apt-cache": "postgresql", "dpkg-query": "${Package}", "dpkg-deb": "dpkg-deb"} {
		broken := map[string]string{}
		for name, script := range scripts {
			broken[name] = script
		}
		broken[program] = "echo it is broken; exit 1"
		cache := fakeDebian(t, broken)
		_, err := fetchPostgres(t.Context(), &log)
		require.ErrorContains(t, err, "it is broken: install the package postgresql, or set BETRACE_TEST_POSTGRES")
		require.ErrorContains(t, err, want)
		left, err := filepath.Glob(filepath.Join(cache, "postgres-*"))
		require.NoError(t, err)
		require.Empty(t, left, "nothing incomplete stays")
	}
}

func TestSystemWithoutPackagesOfDebianNeedsAPostgres(t *testing.T) {
	fakeDebian(t, nil)
	t.Setenv("PATH", t.TempDir())
	_, err := fetchPostgres(t.Context(), os.Stderr)
	require.ErrorContains(t, err, "there is no PostgreSQL: install the package postgresql, or set BETRACE_TEST_POSTGRES to the URL of a server")
}
