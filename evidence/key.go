package evidence

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The types of PEM blocks with keys.
const (
	pemPrivate = "PRIVATE KEY"
	pemPublic  = "PUBLIC KEY"
)

// Key is an Ed25519 key that signs entries. It is stored as PEM with PKCS #8.
type Key struct {
	private ed25519.PrivateKey
	public  PublicKey
}

// NewKey returns a new random key.
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a signing key: %w", err)
	}
	return keyOf(private)
}

func keyOf(private ed25519.PrivateKey) (*Key, error) {
	public, err := publicKeyOf(private.Public().(ed25519.PublicKey))
	return &Key{private, public}, err
}

// LoadKey reads the key in a file. If there is no such file, the error is [fs.ErrNotExist].
func LoadKey(path string) (*Key, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil || block.Type != pemPrivate {
		return nil, fmt.Errorf("signing key %s: it has no PEM block %q: use a key that \"betrace keys new\" or \"openssl genpkey -algorithm ed25519\" wrote", path, pemPrivate)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", path, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key %s: it is a %T: use an Ed25519 key", path, parsed)
	}
	return keyOf(private)
}

// Save writes the key to a new file that only its owner can read. It refuses to overwrite a file. After a crash the
// file is complete or does not exist.
func (k *Key) Save(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("save the signing key: %w", err)
		}
	}()
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return err
	}
	folder := filepath.Dir(path)
	// os.CreateTemp creates a file with the permissions 0600.
	draft, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name()) //nolint:errcheck // a draft that stays does no harm
	defer draft.Close()
	if err := pem.Encode(draft, &pem.Block{Type: pemPrivate, Bytes: der}); err != nil {
		return err
	}
	if err := draft.Sync(); err != nil {
		return err
	}
	// A link, unlike a rename, fails if the file exists.
	if err := os.Link(draft.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s exists: give another file, or move it away", path)
		}
		return err
	}
	if d, err := os.Open(folder); err == nil {
		defer d.Close()
		return d.Sync()
	}
	return nil
}

// ID returns the ID of the public key.
func (k *Key) ID() string { return k.public.id }

// Public returns the public key.
func (k *Key) Public() PublicKey { return k.public }

// PublicKey verifies entries. It is stored as PEM with PKIX.
type PublicKey struct {
	key ed25519.PublicKey
	id  string
	pem string
}

func publicKeyOf(key ed25519.PublicKey) (PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return PublicKey{key, hex.EncodeToString(sum[:8]), string(pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der}))}, nil
}

// ParsePublicKey parses a key that [PublicKey.PEM] returned.
func ParsePublicKey(text string) (PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != pemPublic {
		return PublicKey{}, fmt.Errorf("public key: it has no PEM block %q", pemPublic)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return PublicKey{}, fmt.Errorf("public key: it is a %T: use an Ed25519 key", parsed)
	}
	return publicKeyOf(key)
}

// ID returns the first 16 hexadecimal digits of the SHA-256 of the key in PKIX form.
func (k PublicKey) ID() string { return k.id }

// PEM returns the key in PEM.
func (k PublicKey) PEM() string { return k.pem }
