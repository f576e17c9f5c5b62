package blocks

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file:///path
)

// tempoConfig is the part of Tempo's configuration with the location of its blocks (storage.trace in
// https://grafana.com/docs/tempo/latest/configuration/#storage).
type tempoConfig struct {
	Storage struct {
		Trace struct {
			Backend string
			Local   struct{ Path string }
			S3      s3Config
			GCS     gcsConfig
			Azure   azureConfig
		}
	}
}

// readTempoConfig reads the configuration file of a Tempo. ${NAME} in the file is replaced by the environment
// variable, as Tempo does with -config.expand-env.
func readTempoConfig(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("tempo's configuration: %w", err)
	}
	text := os.Expand(string(b), func(name string) string {
		name, fallback, _ := strings.Cut(name, ":")
		if v, ok := os.LookupEnv(name); ok {
			return v
		}
		return fallback
	})
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("tempo's configuration %s: %w", path, err)
	}
	return nil
}

// url returns the URL of the storage. It contains no credentials: [OpenTempo] opens the storage with those of the
// file.
func (c *tempoConfig) url() (string, error) {
	t := &c.Storage.Trace
	query := url.Values{}
	build := func(scheme, bucket, bucketKey, prefix string) (string, error) {
		if bucket == "" {
			return "", fmt.Errorf("storage.trace.%s is empty", bucketKey)
		}
		if prefix = strings.Trim(prefix, "/"); prefix != "" {
			query.Set("prefix", prefix+"/")
		}
		return (&url.URL{Scheme: scheme, Host: bucket, RawQuery: query.Encode()}).String(), nil
	}
	switch t.Backend {
	case "local", "":
		if t.Local.Path == "" {
			return "", fmt.Errorf("storage.trace.local.path is empty: use the file of a Tempo that stores traces")
		}
		return FileURL(t.Local.Path)
	case "s3":
		if t.S3.Region != "" {
			query.Set("region", t.S3.Region)
		}
		if e := t.S3.endpoint(); e != "" {
			query.Set("endpoint", e)
			query.Set("use_path_style", strconv.FormatBool(t.S3.pathStyle()))
		}
		return build("s3", t.S3.Bucket, "s3.bucket", t.S3.Prefix)
	case "gcs":
		if t.GCS.Insecure {
			query.Set("anonymous", "true")
		}
		return build("gs", t.GCS.BucketName, "gcs.bucket_name", t.GCS.Prefix)
	case "azure":
		if t.Azure.StorageAccount != "" {
			query.Set("storage_account", t.Azure.StorageAccount)
		}
		if suffix := t.Azure.EndpointSuffix; suffix != "" {
			query.Set("domain", suffix)
			if !strings.HasPrefix(suffix, "blob.") { // Tempo interprets this as the emulator
				query.Set("protocol", "http")
				query.Set("localemu", "true")
			}
		}
		return build("azblob", t.Azure.ContainerName, "azure.container_name", t.Azure.Prefix)
	}
	return "", fmt.Errorf("storage.trace.backend is %q: use local, s3, gcs or azure", t.Backend)
}

// FileURL returns the URL of a folder on this machine. The URL is only used for reading.
func FileURL(folder string) (string, error) {
	path, err := filepath.Abs(folder)
	if err != nil {
		return "", fmt.Errorf("folder %s: %w", folder, err)
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: "no_tmp_dir=true"}).String(), nil
}

// OpenFolder opens the storage in a folder of this machine.
func OpenFolder(ctx context.Context, folder string) (*Store, error) {
	u, err := FileURL(folder)
	if err != nil {
		return nil, err
	}
	return Open(ctx, u)
}

// OpenTempo opens the storage in the configuration file of a Tempo, with the credentials from the file or
// the environment.
func OpenTempo(ctx context.Context, configFile string) (*Store, error) {
	var c tempoConfig
	if err := readTempoConfig(configFile, &c); err != nil {
		return nil, err
	}
	s, err := c.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("tempo's configuration %s: %w", configFile, err)
	}
	return s, nil
}

func (c *tempoConfig) open(ctx context.Context) (*Store, error) {
	name, err := c.url()
	if err != nil {
		return nil, err
	}
	var bucket *blob.Bucket
	prefix := ""
	switch t := &c.Storage.Trace; {
	case t.Backend == "s3":
		bucket, err = t.S3.open(ctx)
		prefix = t.S3.Prefix
	case t.Backend == "gcs" && t.GCS.Endpoint != "":
		bucket, err = t.GCS.open(ctx)
		prefix = t.GCS.Prefix
	case t.Backend == "azure" && t.Azure.AccountKey != "":
		bucket, err = t.Azure.open(ctx, name)
		prefix = t.Azure.Prefix
	default:
		return Open(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("blocks at %s: %w", name, err)
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		bucket = blob.PrefixedBucket(bucket, prefix+"/")
	}
	return NewStore(bucket, name), nil
}
