package stack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// The test program is also the server that it starts, and the process that starts a server and is killed.
const (
	behaviour = "STACK_TEST_SERVER" // behaviour of the server
	notes     = "STACK_TEST_NOTES"  // a folder in which each server creates a file named by its PID
	parent    = "STACK_TEST_PARENT" // the folder of the process that is killed
)

func TestMain(m *testing.M) {
	config, isServer := "", false
	if len(os.Args) > 1 {
		config, isServer = strings.CutPrefix(os.Args[1], "-config.file=")
	}
	switch {
	case isServer:
		fakeServer(config)
	case slices.Contains(os.Args, "server"):
		fakeS3(os.Args)
	case os.Getenv(parent) != "":
		doomedParent()
	default:
		os.Exit(m.Run())
	}
}

// fakeServer listens at the address in a configuration of Tempo or Loki.
func fakeServer(config string) {
	note := filepath.Join(os.Getenv(notes), strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(note, []byte(strings.Join(os.Environ(), "\n")), 0o600); err != nil {
		panic(err)
	}
	how, n, _ := strings.Cut(os.Getenv(behaviour), ":")
	status := http.StatusOK
	switch how {
	case "exits":
		for i := range 40 {
			fmt.Println("line", i)
		}
		fmt.Fprintln(os.Stderr, "field blocklist_pol not found")
		os.Exit(3)
	case "port taken": // for the first n servers
		started, err := os.ReadDir(os.Getenv(notes))
		if err != nil {
			panic(err)
		}
		if most, _ := strconv.Atoi(n); len(started) <= most {
			fmt.Println("listen tcp 127.0.0.1:1: bind: address already in use")
			os.Exit(1)
		}
	case "never ready":
		status = http.StatusServiceUnavailable
	case "deaf":
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		go func() {
			<-asked
			if err := os.WriteFile(note+".asked", nil, 0o600); err != nil {
				panic(err)
			}
		}()
	}
	fmt.Println("starting")
	text, err := os.ReadFile(config)
	if err != nil {
		panic(err)
	}
	var c struct {
		Server struct {
			Address string `yaml:"http_listen_address"`
			Port    int    `yaml:"http_listen_port"`
		}
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		panic(err)
	}
	http.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	http.HandleFunc("POST /flush", func(w http.ResponseWriter, _ *http.Request) {
		if how == "cannot flush" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	panic(http.ListenAndServe(net.JoinHostPort(c.Server.Address, strconv.Itoa(c.Server.Port)), nil))
}

// fakeS3 listens at the address in the arguments of SeaweedFS, and answers every request with success.
func fakeS3(args []string) {
	note := filepath.Join(os.Getenv(notes), strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(note, []byte(strings.Join(args, "\n")), 0o600); err != nil {
		panic(err)
	}
	var port string
	for _, arg := range args {
		if p, ok := strings.CutPrefix(arg, "-s3.port="); ok {
			port = p
		}
		if path, ok := strings.CutPrefix(arg, "-s3.localSocket="); ok {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				panic(err)
			}
		}
	}
	fmt.Println("no volume server yet")
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/traces/", func(w http.ResponseWriter, r *http.Request) {
		if os.Getenv(behaviour) == "takes no objects" && r.Method == http.MethodPut {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	panic(http.ListenAndServe("127.0.0.1:"+port, nil))
}

// doomedParent starts a server and waits to be killed.
func doomedParent() {
	s, err := Start(context.Background(), Options{Tempo: true, Dir: os.Getenv(parent)})
	if err != nil {
		panic(err)
	}
	if os.Getenv(behaviour) == "deaf" {
		s.Stop() // returns when the server has ended
	}
	select {}
}

// members returns the running processes of a group.
func members(group int) (pids []int) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		panic(err)
	}
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // the process has ended meanwhile
		}
		// pid (name) state ppid pgrp …; the name may contain any character.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if fields[0] != "Z" && fields[2] == strconv.Itoa(group) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// fake makes Start run the test program as both servers, and returns the folder in which they record
// their PIDs.
func fake(t *testing.T, how string) (dir string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir = t.TempDir()
	for k, v := range map[string]string{"TEMPO_BIN": self, "LOKI_BIN": self, "WEED_BIN": self, behaviour: how, notes: dir, "TEMPO_URL": "", "LOKI_URL": ""} {
		t.Setenv(k, v)
	}
	return dir
}

// servers returns the PIDs of the started fake servers.
func servers(t *testing.T, dir string) (pids []int) {
	t.Helper()
	notes, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, n := range notes {
		if pid, err := strconv.Atoi(n.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("condition not met within 2 minutes: %s", what)
		}
	}
}

// wantGone waits until processes have ended. A zombie counts as ended.
func wantGone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d ends", pid), func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && bytes.Contains(stat, []byte(") Z ")) {
				return true
			}
			return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
		})
	}
}

func startStack(t *testing.T, opts Options) *Stack {
	t.Helper()
	s, err := Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

func wantStatus(t *testing.T, url string, status int) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, status, resp.StatusCode, url)
}

func TestEveryConfigurationListensOnLoopbackOnly(t *testing.T) {
	for _, test := range []struct {
		template string
		fast     bool
	}{{"tempo.yaml.tmpl", true}, {"tempo.yaml.tmpl", false}, {"loki.yaml.tmpl", false}} {
		t.Run(fmt.Sprint(test.template, " fast ", test.fast), func(t *testing.T) {
			c := settings{Dir: "/data dir", Fast: test.fast, Multitenant: true, HTTP: 5001, GRPC: 5002, OTLPGRPC: 5003, OTLPHTTP: 5004, Gossip: 5005}
			text, err := render(test.template, c)
			require.NoError(t, err)
			var parsed map[string]any
			require.NoError(t, yaml.Unmarshal([]byte(text), &parsed))
			addresses := 0
			var walk func(path string, v any)
			walk = func(path string, v any) {
				key := path[strings.LastIndex(path, ".")+1:]
				switch v := v.(type) {
				case map[string]any:
					for k, v := range v {
						walk(path+"."+k, v)
					}
				case []any:
					for _, v := range v {
						walk(path, v)
					}
				case string:
					if strings.Contains(key, "addr") || key == "endpoint" {
						host, _, _ := strings.Cut(v, ":")
						require.Equal(t, "127.0.0.1", host, path)
						addresses++
					}
				}
			}
			walk("", parsed)
			server := parsed["server"].(map[string]any)
			require.Equal(t, "127.0.0.1", server["http_listen_address"])
			require.Equal(t, "127.0.0.1", server["grpc_listen_address"])
			require.Equal(t, []any{"127.0.0.1"}, parsed["memberlist"].(map[string]any)["bind_addr"])
			require.EqualValues(t, 5001, server["http_listen_port"])
			require.EqualValues(t, 5002, server["grpc_listen_port"])
			require.GreaterOrEqual(t, addresses, 4)
			require.Contains(t, text, "/data dir/")
			require.Equal(t, test.fast, strings.Contains(text, "ingestion_time_range_slack"), "only the fast profile removes limits")
		})
	}
	_, err := render("none.tmpl", settings{})
	require.ErrorContains(t, err, "none.tmpl")
}

func TestBlocksAreCutAndLaidOutAsAskedFor(t *testing.T) {
	attributes, err := parseDedicated("span.tier,resource.cloud.region")
	require.NoError(t, err)
	text, err := render("tempo.yaml.tmpl", settings{Dir: "/data", Fast: true, FlushOnly: true, Dedicated: attributes})
	require.NoError(t, err)
	var config struct {
		Ingester  map[string]any
		Compactor struct{ Disabled bool }
		Storage   struct {
			Trace struct {
				Block struct {
					Dedicated []map[string]string `yaml:"parquet_dedicated_columns"`
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(text), &config))
	require.Equal(t, "8760h", config.Ingester["max_block_duration"])
	require.True(t, config.Compactor.Disabled)
	require.Equal(t, []map[string]string{
		{"scope": "span", "name": "tier", "type": "string"},
		{"scope": "resource", "name": "cloud.region", "type": "string"},
	}, config.Storage.Trace.Block.Dedicated)

	text, err = render("tempo.yaml.tmpl", settings{Dir: "/data", Fast: true, NoBlocks: true})
	require.NoError(t, err)
	config.Ingester = nil
	require.NoError(t, yaml.Unmarshal([]byte(text), &config))
	require.Equal(t, "8760h", config.Ingester["max_block_duration"])
	require.Equal(t, "2s", config.Ingester["trace_idle_period"], "search must find traces within seconds")

	text, err = render("tempo.yaml.tmpl", settings{Dir: "/data", Fast: true, Compacting: true})
	require.NoError(t, err)
	var compacting struct {
		Compactor struct {
			Compaction struct {
				Retention time.Duration `yaml:"compacted_block_retention"`
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(text), &compacting))
	require.Equal(t, CompactedRetention, compacting.Compactor.Compaction.Retention)

	for _, list := range []string{"tier", "event.tier", "span.", "span.a,"} {
		_, err := parseDedicated(list)
		require.ErrorContains(t, err, "use span.<key> or resource.<key>", list)
	}
}

func TestFreePortsDiffer(t *testing.T) {
	ports, err := freePorts(t.Context(), 50)
	require.NoError(t, err)
	slices.Sort(ports)
	require.Len(t, slices.Compact(ports), 50)
	require.Positive(t, ports[0])
}

func TestTheCacheFollowsWhatIsBuilt(t *testing.T) {
	dir := t.TempDir()
	_, err := cacheKey(dir)
	require.ErrorContains(t, err, "go.mod")
	keys := map[string]bool{}
	for _, files := range [][2]string{{"module a", "sum"}, {"module b", "sum"}, {"module b", "sum2"}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(files[0]), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), []byte(files[1]), 0o600))
		key, err := cacheKey(dir)
		require.NoError(t, err)
		again, err := cacheKey(dir)
		require.NoError(t, err)
		require.Equal(t, key, again)
		_, err = hex.DecodeString(key)
		require.NoError(t, err, "the key must be usable in a file name")
		keys[key] = true
	}
	require.Len(t, keys, 3)
}

func TestAServerIsTakenFromTheEnvironmentOrTheCacheBeforeItIsBuilt(t *testing.T) {
	var log bytes.Buffer
	program := filepath.Join(t.TempDir(), "my-tempo")
	t.Setenv("TEMPO_BIN", program)
	_, err := Build(t.Context(), Tempo, &log)
	require.ErrorContains(t, err, "TEMPO_BIN: stat "+program)
	require.NoError(t, os.WriteFile(program, nil, 0o700))
	path, err := Build(t.Context(), Tempo, &log)
	require.NoError(t, err)
	require.Equal(t, program, path)

	t.Setenv("LOKI_BIN", "")
	cache := t.TempDir()
	t.Setenv("BETRACE_STACK_CACHE", cache)
	source, err := sourceDir(Loki)
	require.NoError(t, err)
	key, err := cacheKey(source)
	require.NoError(t, err)
	kept := filepath.Join(cache, "loki-"+key)
	require.NoError(t, os.WriteFile(kept, nil, 0o700))
	path, err = Build(t.Context(), Loki, &log)
	require.NoError(t, err)
	require.Equal(t, kept, path)
	require.Empty(t, log.String())

	// Without the program Start builds it and reports progress. Here the build fails at once.
	require.NoError(t, os.Remove(kept))
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "go"), []byte("#!/bin/sh\necho no network; exit 1\n"), 0o700))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	_, err = Build(t.Context(), Loki, &log)
	require.ErrorContains(t, err, "go build github.com/grafana/loki/v3/cmd/loki in "+source+": exit status 1\nno network")
	require.Contains(t, log.String(), "building loki (once, about 8 minutes on two cores): 0 s")

	t.Setenv("BETRACE_STACK_CACHE", program)
	_, err = Build(t.Context(), Loki, &log)
	require.ErrorContains(t, err, "stack: cache folder: ")
	t.Setenv("BETRACE_STACK_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	_, err = Build(t.Context(), Loki, &log)
	require.ErrorContains(t, err, "set BETRACE_STACK_CACHE")
}

func TestAProgramBuiltWithTrimpathFindsTheServersModules(t *testing.T) {
	here, err := os.Getwd()
	require.NoError(t, err)
	for given, want := range map[string]string{module + "/deploy/stack": here, "/elsewhere/deploy/stack": "/elsewhere/deploy/stack"} {
		dir, err := untrimmed(given)
		require.NoError(t, err)
		require.Equal(t, want, dir)
	}
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "go.mod"), []byte("module "+module+"/bench\n"), 0o600))
	t.Chdir(outside)
	_, err = untrimmed(module + "/deploy/stack")
	require.ErrorContains(t, err, "is not in the module "+module+": run the program there")
}

func TestServersThatWouldBeBuiltFirstAreNamed(t *testing.T) {
	cache := t.TempDir()
	for name, value := range map[string]string{"TEMPO_BIN": "", "LOKI_BIN": "", "TEMPO_URL": "", "LOKI_URL": "", "BETRACE_STACK_CACHE": cache} {
		t.Setenv(name, value)
	}
	both := Options{Tempo: true, Loki: true}
	want := func(opts Options, want ...Server) {
		t.Helper()
		missing, err := Missing(opts)
		require.NoError(t, err)
		require.Equal(t, want, missing)
	}
	want(both, Loki, Tempo)
	want(Options{Tempo: true}, Tempo)
	require.Equal(t, "about 5 minutes", Tempo.BuildTime())
	_, path, err := cached(Loki)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, nil, 0o700))
	want(both, Tempo)
	t.Setenv("TEMPO_URL", "http://127.0.0.1:3200")
	want(both)
	t.Setenv("TEMPO_URL", "")
	t.Setenv("TEMPO_BIN", "/opt/tempo")
	want(both)
	t.Setenv("TEMPO_BIN", "")
	t.Setenv("BETRACE_STACK_CACHE", path)
	_, err = Missing(both)
	require.ErrorContains(t, err, "stack: cache folder: ")
}

func TestABuildIsKeptWholeOrNotAtAll(t *testing.T) {
	source, path := t.TempDir(), filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(filepath.Join(source, "go.mod"), []byte("module example.org/m\n\ngo 1.22\n"), 0o600))
	write := func(text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(source, "main.go"), []byte(text), 0o600))
	}
	reports := 0
	build := func(ctx context.Context) error {
		return compile(ctx, source, "example.org/m", path, func(int) { reports++ })
	}
	write("package main\n\nfunc main() { undefined() }\n")
	err := build(t.Context())
	require.ErrorContains(t, err, "go build example.org/m in "+source+": exit status 1\n")
	require.ErrorContains(t, err, "undefined: undefined")
	write("package main\n\nfunc main() { println(42) }\n")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, build(cancelled), context.Canceled)
	require.NoFileExists(t, path)
	require.NoError(t, build(t.Context()))
	out, err := exec.Command(path).CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, "42\n", string(out))
	require.Positive(t, reports)
	left, err := filepath.Glob(path + ".*")
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestABuildThatIsInterruptedMayCleanUp(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\ntrap 'touch cleaned; exit 1' INT\ntouch started\nwhile :; do sleep 0.05; done\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "go"), []byte(script), 0o700))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- compile(ctx, dir, "example.org/m", filepath.Join(dir, "program"), func(int) {}) }()
	require.Eventually(t, func() bool { return exists(filepath.Join(dir, "started")) }, 20*time.Second, 10*time.Millisecond)
	cancel(interrupted)
	err := <-done
	require.ErrorIs(t, err, interrupted)
	require.EqualError(t, err, "go build example.org/m: interrupted")
	require.FileExists(t, filepath.Join(dir, "cleaned"))
}

func TestOneOfSeveralProcessesBuilds(t *testing.T) {
	t.Setenv("TEMPO_BIN", "")
	cache := t.TempDir()
	t.Setenv("BETRACE_STACK_CACHE", cache)
	unlock, err := lock(t.Context(), filepath.Join(cache, "tempo.lock"))
	require.NoError(t, err)
	impatient := errors.New("no time")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, impatient)
	defer cancel()
	_, err = Build(ctx, Tempo, &bytes.Buffer{})
	require.ErrorIs(t, err, impatient)
	require.ErrorContains(t, err, "wait for "+filepath.Join(cache, "tempo.lock"))

	// A program that the other process built meanwhile is used.
	source, err := sourceDir(Tempo)
	require.NoError(t, err)
	key, err := cacheKey(source)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := Build(context.WithoutCancel(ctx), Tempo, &bytes.Buffer{})
		done <- err
	}()
	require.NoError(t, os.WriteFile(filepath.Join(cache, "tempo-"+key), nil, 0o700))
	unlock()
	require.NoError(t, <-done)
	_, err = lock(t.Context(), filepath.Join(cache, "none", "lock"))
	require.ErrorContains(t, err, "stack: lock: ")
}

func TestServersRunUntilStopAndLeaveNothing(t *testing.T) {
	pids := fake(t, "")
	s, err := Start(t.Context(), Options{Tempo: true, Loki: true, SelfTrace: true, Multitenant: true, Profile: Default})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	wantStatus(t, s.TempoURL+"/ready", 200)
	wantStatus(t, s.LokiURL+"/ready", 200)
	require.NoError(t, s.Flush(t.Context()))
	text, err := os.ReadFile(s.TempoConfig)
	require.NoError(t, err)
	require.Contains(t, string(text), "multitenancy_enabled: true")
	require.NotContains(t, string(text), "stream_over_http_enabled", "the default profile must not stream over HTTP")
	require.Equal(t, filepath.Join(s.Dir, "tempo", "blocks"), s.TempoBlocks)
	running := servers(t, pids)
	require.Len(t, running, 2)
	require.True(t, s.Started())
	var environments string
	for _, pid := range running {
		b, err := os.ReadFile(filepath.Join(pids, strconv.Itoa(pid)))
		require.NoError(t, err)
		environments += string(b) + "\n"
	}
	require.Equal(t, 1, strings.Count(environments, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+s.OTLPGRPC+"\n"), "Tempo must trace itself")
	require.NoError(t, s.Stop())
	wantGone(t, running...)
	require.NoDirExists(t, s.Dir)
	require.NoError(t, s.Stop(), "again")
	require.ErrorContains(t, s.Flush(t.Context()), "flush tempo: ")
}

func TestTempoStoresInTheBucketOfTheStack(t *testing.T) {
	pids := fake(t, "")
	s := startStack(t, Options{Tempo: true, S3: true})
	text, err := os.ReadFile(s.TempoConfig)
	require.NoError(t, err)
	var config struct {
		Storage struct {
			Trace struct {
				Backend string
				Local   any
				S3      map[string]any
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &config))
	require.Equal(t, "s3", config.Storage.Trace.Backend)
	require.Nil(t, config.Storage.Trace.Local)
	require.Equal(t, map[string]any{
		"endpoint": s.S3.Address, "bucket": "traces", "region": "us-east-1", "insecure": true, "forcepathstyle": true,
		"access_key": s.S3.AccessKey, "secret_key": s.S3.SecretKey,
	}, config.Storage.Trace.S3)
	stat, err := os.Stat(s.TempoConfig)
	require.NoError(t, err)
	require.Zero(t, stat.Mode().Perm()&0o077, "the file holds credentials")
	require.Equal(t, "s3://traces?endpoint=http%3A%2F%2F"+url.QueryEscape(s.S3.Address)+"&region=us-east-1&use_path_style=true", s.TempoBlocks)
	require.Len(t, s.S3.SecretKey, 26)

	running := servers(t, pids)
	require.Len(t, running, 2)
	require.NotEmpty(t, s.sockets)
	require.NoError(t, s.Stop())
	wantGone(t, running...)
	for _, path := range s.sockets {
		require.NoFileExists(t, path)
	}
	again := startStack(t, Options{S3: true})
	require.Empty(t, again.TempoURL, "SeaweedFS alone")
	require.NotEqual(t, s.S3.SecretKey, again.S3.SecretKey)
}

func TestSeaweedFSListensOnLoopbackOnlyAndReportsNothing(t *testing.T) {
	arguments := weedArguments(settings{Ports: []int{1, 2, 3, 4, 5, 6, 7, 8}}, "/dir", "/dir/config")
	for _, want := range []string{"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=/dir/config"} {
		require.Contains(t, arguments, want)
	}
	text, err := render("seaweedfs.json.tmpl", settings{S3: &Bucket{AccessKey: "KEY", SecretKey: "SECRET"}})
	require.NoError(t, err)
	require.Contains(t, text, `"credentials": [{"accessKey": "KEY", "secretKey": "SECRET"}]`)
}

func TestABucketThatTakesNoObjectsIsAnError(t *testing.T) {
	fake(t, "takes no objects")
	impatient := errors.New("no time")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, impatient)
	defer cancel()
	_, err := Start(ctx, Options{S3: true})
	require.ErrorIs(t, err, impatient)
	require.ErrorContains(t, err, "create bucket traces: ")
	require.ErrorContains(t, err, "the log of seaweedfs ends with\nno volume server yet")
}

func TestAFolderThatIsGivenIsKept(t *testing.T) {
	pids := fake(t, "cannot flush")
	dir := t.TempDir()
	s := startStack(t, Options{Tempo: true, Dir: dir})
	require.Equal(t, dir, s.Dir)
	require.Empty(t, s.LokiURL)
	require.ErrorContains(t, s.Flush(t.Context()), "flush tempo: 500 Internal Server Error")
	require.NoError(t, s.Stop())
	wantGone(t, servers(t, pids)...)
	require.FileExists(t, filepath.Join(dir, "tempo", "config.yaml"))
	require.FileExists(t, filepath.Join(dir, "tempo", "tempo.log"))
	require.ErrorContains(t, (&Stack{TempoURL: "http://%zz"}).Flush(t.Context()), "flush tempo: ")

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Start(t.Context(), Options{Tempo: true, Dir: file})
	require.ErrorContains(t, err, "not a directory")
}

func TestServersThatRunAlreadyAreUsedAndLeftAlone(t *testing.T) {
	pids := fake(t, "")
	for k, v := range map[string]string{
		"TEMPO_URL": "http://127.0.0.1:1", "TEMPO_GRPC": "127.0.0.1:2", "TEMPO_OTLP_GRPC": "127.0.0.1:3",
		"TEMPO_OTLP_HTTP": "http://127.0.0.1:4", "LOKI_URL": "http://127.0.0.1:5",
	} {
		t.Setenv(k, v)
	}
	s := startStack(t, Options{Tempo: true, Loki: true})
	require.Equal(t, []string{"http://127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "http://127.0.0.1:4", "http://127.0.0.1:5"},
		[]string{s.TempoURL, s.TempoGRPC, s.OTLPGRPC, s.OTLPHTTP, s.LokiURL})
	require.Empty(t, s.TempoConfig)
	require.False(t, s.Started())
	require.NoError(t, s.Stop())
	require.Empty(t, servers(t, pids), "no server must be started")

	for _, name := range []string{"TEMPO_GRPC", "TEMPO_OTLP_GRPC", "TEMPO_OTLP_HTTP"} {
		t.Setenv(name, "")
	}
	t.Setenv("TEMPO_URL", "http://tempo.example:3200")
	s = startStack(t, Options{Tempo: true})
	require.Equal(t, []string{"http://tempo.example:3200", "tempo.example:9095", "tempo.example:4317", "http://tempo.example:4318"},
		[]string{s.TempoURL, s.TempoGRPC, s.OTLPGRPC, s.OTLPHTTP})
}

func TestAServerThatExitsIsAnErrorThatHoldsTheEndOfItsLog(t *testing.T) {
	pids := fake(t, "exits")
	_, err := Start(t.Context(), Options{Loki: true})
	require.ErrorContains(t, err, "loki ended: exit status 3; its log ends with\n")
	require.ErrorContains(t, err, "line 39\nfield blocklist_pol not found")
	require.NotContains(t, err.Error(), "line 10\n")
	require.Len(t, servers(t, pids), 1, "the start must not be repeated")

	t.Setenv("TEMPO_BIN", filepath.Join(t.TempDir(), "none"))
	_, err = Start(t.Context(), Options{Tempo: true})
	require.ErrorContains(t, err, "TEMPO_BIN: ")
	t.Setenv("LOKI_BIN", "/dev/null") // exists, but is no program
	_, err = Start(t.Context(), Options{Loki: true})
	require.ErrorContains(t, err, "loki ended: exit status 126")
}

func TestAServerThatNeverBecomesReadyEndsWithTheContext(t *testing.T) {
	pids := fake(t, "never ready")
	impatient := errors.New("no time")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		for started, _ := os.ReadDir(pids); len(started) == 0; started, _ = os.ReadDir(pids) {
			time.Sleep(time.Millisecond)
		}
		cancel(impatient)
	}()
	_, err := Start(ctx, Options{Tempo: true})
	require.ErrorIs(t, err, impatient)
	require.ErrorContains(t, err, "tempo is not ready (http://127.0.0.1:")
	require.ErrorContains(t, err, "/ready): no time; its log ends with\n")
	require.Len(t, servers(t, pids), 1)
	wantGone(t, servers(t, pids)...)
}

func TestAServerThatDoesNotEndIsKilled(t *testing.T) {
	pids := fake(t, "deaf")
	s := startStack(t, Options{Tempo: true})
	require.NoError(t, s.processes[0].stop(100*time.Millisecond))
	wantGone(t, servers(t, pids)...)
}

func TestAPortThatWasTakenMeanwhileIsReplaced(t *testing.T) {
	pids := fake(t, "port taken:2")
	s := startStack(t, Options{Tempo: true})
	wantStatus(t, s.TempoURL+"/ready", 200)
	require.Len(t, servers(t, pids), 3)

	pids = fake(t, "port taken:3")
	_, err := Start(t.Context(), Options{Tempo: true})
	require.ErrorContains(t, err, "address already in use")
	require.Len(t, servers(t, pids), 3, "the number of attempts must be bounded")
}

// A test that is killed cannot stop its servers.
func TestServersDieWithTheProcessThatStartedThem(t *testing.T) {
	for name, how := range map[string]string{"while they run": "", "while they ignore the request to end": "deaf"} {
		t.Run(name, func(t *testing.T) {
			pids := fake(t, how)
			self, err := os.Executable()
			require.NoError(t, err)
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), parent+"="+t.TempDir())
			cmd.Stderr = os.Stderr
			require.NoError(t, cmd.Start())
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			defer cmd.Process.Kill() // fails if it was killed below
			eventually(t, "the server runs", func() bool {
				if how == "" {
					return len(servers(t, pids)) == 1
				}
				asked, err := filepath.Glob(filepath.Join(pids, "*.asked"))
				require.NoError(t, err)
				return len(asked) == 1
			})
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, <-ended)
			wantGone(t, servers(t, pids)...)
		})
	}
}

func TestRealServersStartAnswerAndLeaveNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers: run without -short")
	}
	for _, profile := range []Profile{Fast, Default} {
		t.Run(string(profile), func(t *testing.T) {
			s := startStack(t, Options{Tempo: true, Loki: profile == Fast, S3: profile == Fast, Profile: profile})
			wantStatus(t, s.TempoURL+"/ready", 200)
			if s.LokiURL != "" {
				wantStatus(t, s.LokiURL+"/ready", 200)
			}
			require.NoError(t, s.Flush(t.Context()))
			var pids []int
			for _, p := range s.processes {
				pids = append(pids, p.cmd.Process.Pid)
				pids = append(pids, members(p.cmd.Process.Pid)...)
			}
			if runtime.GOOS == "linux" {
				for _, address := range listening(t, pids) {
					require.True(t, address.IsLoopback(), "listens on %s", address)
				}
			}
			require.NoError(t, s.Stop())
			wantGone(t, pids...)
			require.NoDirExists(t, s.Dir)
		})
	}
}

// listening returns the addresses where processes listen.
func listening(t *testing.T, pids []int) (addresses []net.IP) {
	t.Helper()
	sockets := map[string]bool{}
	for _, pid := range pids {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		require.NoError(t, err)
		for _, file := range files {
			if link, err := os.Readlink(file); err == nil {
				sockets[strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")] = true
			}
		}
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		require.NoError(t, err)
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// n: local remote state queues timer retransmits uid timeout inode …
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != "0A" || !sockets[fields[9]] {
				continue
			}
			words, _, _ := strings.Cut(fields[1], ":")
			ip, err := hex.DecodeString(words)
			require.NoError(t, err)
			for word := range slices.Chunk(ip, 4) { // each in the order of the host
				slices.Reverse(word)
			}
			addresses = append(addresses, ip)
		}
	}
	require.NotEmpty(t, addresses)
	return addresses
}
