package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed" // For openapi.json.
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
)

// OpenAPI is the contract, as GET /openapi.json serves it.
//
//go:embed openapi.json
var OpenAPI []byte

// contract is OpenAPI as it is served. It is a tenth as long when compressed.
type contract struct {
	compressed []byte
	tag        string
}

var servedContract = sync.OnceValue(func() contract {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(OpenAPI)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // A bytes.Buffer takes everything, and the level exists.
	}
	sum := sha256.Sum256(OpenAPI)
	return contract{b.Bytes(), `"` + hex.EncodeToString(sum[:8]) + `"`}
})

// openAPI handles GET /openapi.json. Anyone may keep the document for an hour, and need not fetch
// it again as long as it is the same. The tag is weak (RFC 9110 section 8.8.1): it is that of both
// encodings.
func openAPI(x *exchange) error {
	served := servedContract()
	header := x.Header()
	header.Set("Cache-Control", "public, max-age=3600")
	header.Set("Etag", "W/"+served.tag)
	header.Set("Vary", "Accept-Encoding")
	if known := x.r.Header.Values("If-None-Match"); len(known) > 0 && anyMatch(known, served.tag) {
		x.WriteHeader(http.StatusNotModified)
		return nil
	}
	body := OpenAPI
	if acceptsGzip(x.r.Header.Values("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		body = served.compressed
	}
	x.writeBody(http.StatusOK, contentTypeJSON, body)
	return nil
}

// acceptsGzip reports whether Accept-Encoding names gzip and does not refuse it with a weight of 0
// (RFC 9110 section 12.5.3). A form that it does not know is no acceptance.
func acceptsGzip(values []string) bool {
	for coding := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, weight, weighted := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		return !weighted || strings.Trim(weight, " \tq=0.") != ""
	}
	return false
}
