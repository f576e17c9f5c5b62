package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// fetchPostgres downloads and unpacks the PostgreSQL that the system's Debian or Ubuntu offers, with the libraries that
// are not installed. Root rights are not needed, and nothing is installed. The result stays in the cache.
func fetchPostgres(ctx context.Context, log io.Writer) (postgresPrograms, error) {
	cache, err := cacheDir()
	if err != nil {
		return postgresPrograms{}, err
	}
	release, err := releaseName("/etc/os-release")
	if err == nil {
		_, err = exec.LookPath("apt-get")
	}
	if err != nil {
		return postgresPrograms{}, fmt.Errorf("stack: there is no PostgreSQL: install the package postgresql, or set %s to the URL of a server whose user may create databases (%w)", postgresEnv, err)
	}
	root := filepath.Join(cache, "postgres-"+release+"-"+runtime.GOARCH)
	if !exists(root) {
		unlock, err := lock(ctx, filepath.Join(cache, "postgres.lock"))
		if err != nil {
			return postgresPrograms{}, err
		}
		defer unlock()
	}
	if !exists(root) { // no other process fetched it meanwhile
		fmt.Fprintln(log, "fetching Debian's packages of PostgreSQL (once, about a minute)")
		partial := fmt.Sprintf("%s.%d", root, os.Getpid())
		err := errors.Join(fetchPackages(ctx, partial), os.RemoveAll(filepath.Join(partial, "apt")))
		if err == nil {
			err = os.Rename(partial, root)
		}
		if err != nil {
			return postgresPrograms{}, errors.Join(fmt.Errorf("stack: fetch PostgreSQL: %w: install the package postgresql, or set %s", err, postgresEnv), os.RemoveAll(partial))
		}
	}
	bin := newestPostgres(filepath.Join(root, installedPostgres))
	if bin == "" {
		return postgresPrograms{}, fmt.Errorf("stack: %s has no PostgreSQL: remove it, so that it is fetched again", root)
	}
	return postgresPrograms{bin: bin, root: root}, nil
}

// releaseName returns the name and version of the system, as debian-12.
func releaseName(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `="?([a-z0-9.]*)"?$`).FindSubmatch(text)
		if m == nil {
			return ""
		}
		return string(m[1])
	}
	return value("ID") + "-" + value("VERSION_ID"), nil
}

// fetchPackages unpacks PostgreSQL and the missing libraries in dir. Its subfolder apt can be removed afterwards.
func fetchPackages(ctx context.Context, dir string) error {
	apt := filepath.Join(dir, "apt")
	for _, d := range []string{"lists/partial", "cache/archives/partial", "packages"} {
		if err := os.MkdirAll(filepath.Join(apt, d), 0o755); err != nil {
			return err
		}
	}
	// The lists of packages of the system may be missing or out of date, and only root can update them.
	options := []string{"-o", "Dir::State::Lists=" + filepath.Join(apt, "lists"), "-o", "Dir::Cache=" + filepath.Join(apt, "cache"), "-o", "APT::Sandbox::User=root"}
	run := func(program string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Dir, cmd.Env = filepath.Join(apt, "packages"), append(os.Environ(), "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w\n%s", program, args[len(args)-1], err, tail(string(out), 20))
		}
		return string(out), nil
	}
	if _, err := run("apt-get", append(slices.Clone(options), "update")...); err != nil {
		return err
	}
	tree, err := run("apt-cache", append(slices.Clone(options), "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
		"--no-replaces", "--no-enhances", "postgresql")...)
	if err != nil {
		return err
	}
	installed, err := run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n")
	if err != nil {
		return err
	}
	wanted := wantedPackages(tree, installed)
	if _, err := run("apt-get", append(append(slices.Clone(options), "download"), wanted...)...); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(apt, "packages", "*.deb"))
	if err != nil {
		return err
	}
	for _, p := range packages {
		if _, err := run("dpkg-deb", "-x", p, dir); err != nil {
			return err
		}
	}
	// PostgreSQL would load its compiler, whose library is not there, for expensive queries.
	compilers, err := filepath.Glob(filepath.Join(dir, installedPostgres, "*", "lib", "llvmjit.so"))
	for _, compiler := range compilers {
		err = errors.Join(err, os.Remove(compiler))
	}
	return err
}

var (
	postgresPackage = regexp.MustCompile(`^postgresql(-client)?-[0-9]+$`)
	// Libraries of the just-in-time compiler, which is large and not needed, of Perl, and of the C library, which must
	// be that of the system.
	unneededLibrary = regexp.MustCompile(`^lib(llvm|z3|c6|c-|c-bin|perl)|-perl$|:`)
)

// wantedPackages returns the packages to download: PostgreSQL, and the libraries of the tree of dependencies that are not
// installed.
func wantedPackages(tree, installed string) []string {
	present := map[string]bool{}
	for line := range strings.Lines(installed) {
		name, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		present[name] = present[name] || status == "installed"
	}
	var wanted []string
	for line := range strings.Lines(tree) {
		name := strings.TrimRight(line, "\n")
		isLibrary := strings.HasPrefix(name, "lib") && !unneededLibrary.MatchString(name) && !present[name]
		if postgresPackage.MatchString(name) || isLibrary {
			wanted = append(wanted, name)
		}
	}
	return wanted
}
