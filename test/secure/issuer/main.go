// Command issuer is the token endpoint of docker-compose.secure.yml. It uses the standard library
// only, so that it starts from the sources without a network.
package main

import (
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/paylatch/paylatch/test/pki"
)

// client is the only one, and its secret is in this file.
const client, secretPath = "verifier", "/secrets/client-secret"

func main() {
	key, err := os.ReadFile("/secrets/signing-key.pem")
	if err != nil {
		log.Fatal(err)
	}
	issuer, err := pki.LoadIssuer(key)
	if err != nil {
		log.Fatal(err)
	}
	issuer.Life = 30 * time.Second
	issuer.Secret = func(name string) string {
		secret, err := os.ReadFile(secretPath)
		if err != nil || name != client {
			return ""
		}
		return strings.TrimSpace(string(secret))
	}
	server := &http.Server{Addr: ":8444", Handler: issuer, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServeTLS("/secrets/cert.pem", "/secrets/key.pem"))
}
