package main

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/paylatch/paylatch/test/pki"
)

// validity is that of the certificates.
const validity = 365 * 24 * time.Hour

// hba lets nobody in without TLS and the password, but over the socket inside the container.
const hba = "local all all scram-sha-256\nhostssl all all all scram-sha-256\n"

// generate makes all certificates and passwords, unless they are there. Each container gets a
// directory of its own.
func generate(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "host", "ca.pem")); err == nil {
		return nil
	}
	ca, err := pki.NewCA("paylatch-secure CA")
	if err != nil {
		return err
	}
	issuer, err := pki.NewIssuer()
	if err != nil {
		return err
	}
	database, sender, client := rand.Text(), rand.Text(), rand.Text()
	t := tree{dir: dir, ca: ca}
	t.file("postgres/password", []byte(database))
	t.file("postgres/pg_hba.conf", []byte(hba))
	t.pair("postgres/cert.pem", "postgres/key.pem", "postgres", "postgres")
	broker := t.issue("kafka", "kafka", "localhost", "127.0.0.1")
	t.file("kafka/broker.pem", broker.Bytes())
	t.file("kafka/ca.pem", ca.PEM)
	t.file("kafka/jwks.json", issuer.Keys())
	t.file("issuer/signing-key.pem", issuer.Key())
	t.file("issuer/client-secret", []byte(client))
	t.pair("issuer/cert.pem", "issuer/key.pem", "issuer", "issuer")
	t.file("paylatch/ca.pem", ca.PEM)
	t.file("paylatch/database-password", []byte(database))
	t.file("paylatch/kafka-password", []byte(sender))
	t.file("paylatch/client-secret", []byte(client))
	t.pair("paylatch/operator.pem", "paylatch/operator-key.pem", "operator")
	t.pair("paylatch/api.pem", "paylatch/api-key.pem", "api", "paylatch", "localhost", "127.0.0.1")
	t.pair("host/admin.pem", "host/admin-key.pem", "admin")
	t.file("client/ca.pem", ca.PEM)
	t.file("host/ca.pem", ca.PEM) // The last one: see above.
	return t.err
}

// tree writes files below a directory, and keeps the first errors.
type tree struct {
	dir string
	ca  *pki.CA
	err error
}

// file writes a file that a container's user may read. Others of this machine cannot enter the
// directory.
func (t *tree) file(name string, content []byte) {
	path := filepath.Join(t.dir, name)
	t.err = errors.Join(t.err, os.MkdirAll(t.dir, 0o700), os.MkdirAll(filepath.Dir(path), 0o755),
		os.WriteFile(path, content, 0o644))
}

func (t *tree) issue(name string, hosts ...string) pki.Pair {
	pair, err := t.ca.Issue(name, time.Now().Add(validity), hosts...)
	t.err = errors.Join(t.err, err)
	return pair
}

func (t *tree) pair(certificate, key, name string, hosts ...string) {
	pair := t.issue(name, hosts...)
	t.file(certificate, pair.Certificate)
	t.file(key, pair.Key)
}
