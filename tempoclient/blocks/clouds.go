package blocks

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"

	"cloud.google.com/go/storage"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob" // azblob://container
	"gocloud.dev/blob/gcsblob"   // gs://bucket
	"gocloud.dev/gcp"
	"google.golang.org/api/option"
)

// gcsConfig is storage.trace.gcs of Tempo's configuration (tempodb/backend/gcs/config.go).
type gcsConfig struct {
	BucketName string `yaml:"bucket_name"`
	Prefix     string
	Endpoint   string
	// Insecure means that requests are not authenticated.
	Insecure bool
}

// open opens a bucket with a configured endpoint.
func (c *gcsConfig) open(ctx context.Context) (*blob.Bucket, error) {
	client := gcp.NewAnonymousHTTPClient(gcp.DefaultTransport())
	if !c.Insecure {
		found, err := gcp.DefaultCredentials(ctx)
		if err != nil {
			return nil, err
		}
		if client, err = gcp.NewHTTPClient(gcp.DefaultTransport(), gcp.CredentialsTokenSource(found)); err != nil {
			return nil, err
		}
	}
	return gcsblob.OpenBucket(ctx, client, c.BucketName, &gcsblob.Options{
		ClientOptions: []option.ClientOption{option.WithEndpoint(c.Endpoint), storage.WithJSONReads()},
	})
}

// azureConfig is storage.trace.azure of Tempo's configuration (tempodb/backend/azure/config.go).
type azureConfig struct {
	ContainerName  string `yaml:"container_name"`
	Prefix         string
	StorageAccount string `yaml:"storage_account_name"`
	AccountKey     string `yaml:"storage_account_key"`
	EndpointSuffix string `yaml:"endpoint_suffix"`
}

// open opens a container with the key of its account.
func (c *azureConfig) open(ctx context.Context, address string) (*blob.Bucket, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	account := cmp.Or(c.StorageAccount, os.Getenv("AZURE_STORAGE_ACCOUNT"))
	service, err := azureblob.NewServiceURL(&azureblob.ServiceURLOptions{
		AccountName: account, StorageDomain: c.EndpointSuffix, Protocol: u.Query().Get("protocol"), IsLocalEmulator: u.Query().Has("localemu"),
	})
	if err != nil {
		return nil, fmt.Errorf("storage.trace.azure.storage_account_name: %w", err)
	}
	key, err := container.NewSharedKeyCredential(account, c.AccountKey)
	if err != nil {
		return nil, fmt.Errorf("storage.trace.azure.storage_account_key is not base64") // the wrapped error may contain the key
	}
	client, err := container.NewClientWithSharedKeyCredential(string(service)+"/"+c.ContainerName, key, nil)
	if err != nil {
		return nil, err
	}
	return azureblob.OpenBucket(ctx, client, nil)
}
