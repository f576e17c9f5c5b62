package stack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// postgresEnv names a PostgreSQL that is already running. Its user must be permitted to create databases.
const postgresEnv = "BETRACE_TEST_POSTGRES"

// Postgres is a database of a PostgreSQL server.
type Postgres struct {
	// URL names the server, the user and the database. It contains no password.
	URL string
	// Password is generated at each start. It is empty if the server needs none, or if the environment has it.
	Password string
}

// Env returns the environment variables from which clients read the password.
func (p *Postgres) Env() []string {
	if p.Password == "" {
		return nil
	}
	return []string{"PGPASSWORD=" + p.Password}
}

// runningPostgres returns the server that the environment names, or nil.
func runningPostgres() (*Postgres, error) {
	address := os.Getenv(postgresEnv)
	if address == "" {
		return nil, nil
	}
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return nil, fmt.Errorf("stack: %s is no URL of a PostgreSQL: write it as postgres://user:password@host:port/database", postgresEnv)
	}
	p := &Postgres{}
	if u.User != nil {
		p.Password, _ = u.User.Password()
		u.User = url.User(u.User.Username())
	}
	p.URL = u.String()
	return p, nil
}

// postgresPrograms are the programs of a PostgreSQL.
type postgresPrograms struct {
	// bin is the folder of postgres and initdb.
	bin string
	// root is the folder of unpacked packages in which bin and the libraries are, or empty for an installed PostgreSQL.
	root string
}

// startPostgres starts a PostgreSQL with its default settings, which listens on 127.0.0.1 only.
func (s *Stack) startPostgres(ctx context.Context, opts Options, add func(*process)) error {
	running, err := runningPostgres()
	if running != nil || err != nil {
		s.Postgres = running
		return err
	}
	programs, err := buildPostgres(ctx, opts.Log)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.Dir, "postgres")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	logFile := filepath.Join(dir, "postgres.log")
	owner, err := s.unprivileged(&programs, &dir)
	if err != nil {
		return err
	}
	password := rand.Text()
	if err := initPostgres(ctx, programs, owner, dir, password); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("no answer after %s", readyTimeout))
	defer cancel()
	for try := 1; ; try++ {
		ports, err := freePorts(ctx, 1)
		if err != nil {
			return err
		}
		p, err := startAs(owner, dir, "postgres", logFile, programs.env(), filepath.Join(programs.bin, "postgres"),
			"-D", filepath.Join(dir, "data"), "-p", strconv.Itoa(ports[0]), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200")
		if err != nil {
			return err
		}
		p.end = syscall.SIGINT // SIGTERM waits for clients to disconnect
		server := &Postgres{URL: fmt.Sprintf("postgres://betrace@127.0.0.1:%d/postgres", ports[0]), Password: password}
		err = p.waitUntil(ctx, server.URL, func() bool { return server.answers(ctx) })
		if err == nil || !p.lostPort() || try == 3 {
			add(p)
			s.Postgres = server
			return err
		}
	}
}

// answers reports whether the server accepts the password.
func (p *Postgres) answers(ctx context.Context) bool {
	config, err := pgx.ParseConfig(p.URL)
	if err != nil {
		return false // the URL is ours
	}
	config.Password = p.Password
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

// unprivileged returns the user that runs PostgreSQL, which refuses to run as root, or nil for the user of this process.
// For another user it replaces the folders of the data and of unpacked programs by ones that this user can enter.
func (s *Stack) unprivileged(programs *postgresPrograms, dir *string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		owner, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("stack: PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody: %w: set %s", err, postgresEnv)
	}
	uid, uidErr := strconv.ParseUint(owner.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(owner.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("stack: user %s: %w", owner.Username, err)
	}
	open, err := os.MkdirTemp("", "betrace-postgres-")
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	s.folders = append(s.folders, open)
	if programs.root != "" {
		root := filepath.Join(open, "programs")
		if err := os.CopyFS(root, os.DirFS(programs.root)); err != nil {
			return nil, fmt.Errorf("stack: copy PostgreSQL: %w", err)
		}
		programs.bin = root + strings.TrimPrefix(programs.bin, programs.root)
		programs.root = root
	}
	*dir = filepath.Join(open, "server")
	err = os.Chmod(open, 0o755)
	if err == nil {
		err = os.Mkdir(*dir, 0o700)
	}
	if err == nil {
		err = os.Chown(*dir, int(uid), int(gid))
	}
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// initPostgres writes the data of a server with the user betrace, in the folder data of dir. A server that was started
// there before loses its data.
func initPostgres(ctx context.Context, programs postgresPrograms, owner *syscall.Credential, dir, password string) error {
	data, passwordFile := filepath.Join(dir, "data"), filepath.Join(dir, "password")
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	defer os.Remove(passwordFile) //nolint:errcheck // the folder is removed later
	err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600)
	if err == nil && owner != nil {
		err = os.Chown(passwordFile, int(owner.Uid), int(owner.Gid))
	}
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(programs.bin, "initdb"), "-D", data, "-U", "betrace", "--pwfile="+passwordFile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, append(os.Environ(), programs.env()...), &syscall.SysProcAttr{Credential: owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, tail(string(out), 20))
	}
	return nil
}

// env returns the variables that the programs need.
func (p postgresPrograms) env() []string {
	env := []string{"LC_ALL=C"} // messages are compared in English
	if p.root != "" {
		libraries, _ := filepath.Glob(filepath.Join(p.root, "usr", "lib", "*-linux-*")) // the pattern is valid
		env = append(env, "LD_LIBRARY_PATH="+strings.Join(append(libraries, filepath.Join(p.root, "usr", "lib")), ":"))
	}
	return env
}

// BuildPostgres fetches Debian's packages of PostgreSQL to the cache, if no PostgreSQL is installed, running or fetched.
// It returns the folder of the programs, or the URL of the running server.
func BuildPostgres(ctx context.Context, log io.Writer) (string, error) {
	running, err := runningPostgres()
	if err != nil {
		return "", err
	}
	if running != nil {
		return running.URL, nil
	}
	programs, err := buildPostgres(ctx, log)
	return programs.bin, err
}

// installedPostgres is where Debian's packages have the programs of PostgreSQL.
const installedPostgres = "/usr/lib/postgresql"

// newestPostgres returns the folder of the newest PostgreSQL below a folder with one for each version, or an empty string.
func newestPostgres(dir string) string {
	found, _ := filepath.Glob(filepath.Join(dir, "*", "bin", "initdb")) // the pattern is valid
	version := func(initdb string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb)))) // 0 for a folder that is no version
		return n
	}
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

func buildPostgres(ctx context.Context, log io.Writer) (postgresPrograms, error) {
	if bin := newestPostgres(installedPostgres); bin != "" {
		return postgresPrograms{bin: bin}, nil
	}
	return fetchPostgres(ctx, log)
}
