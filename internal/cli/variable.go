package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// UnknownVariable is an environment variable that looks like a setting and is none.
type UnknownVariable struct {
	Name string
	// Nearest is the setting with the most similar name; empty if none is similar.
	Nearest string
}

// String returns a sentence about the variable.
func (u UnknownVariable) String() string {
	if u.Nearest == "" {
		return u.Name + " is set and is no setting"
	}
	return fmt.Sprintf("%s is set and is no setting; did you mean %s?", u.Name, u.Nearest)
}

const variablePrefix = "PAYLATCH_"

// OtherVariables are those of the project's other programs and of docker-compose.yml. They may be
// in the same environment.
var OtherVariables = []string{
	"PAYLATCH_API_KEY", "PAYLATCH_API_KEY_FILE", "PAYLATCH_SERVER", // payclient
	"PAYLATCH_SERVER_CA", "PAYLATCH_CLIENT_CERT", "PAYLATCH_CLIENT_KEY", // The same.
	"PAYLATCH_DATA", "PAYLATCH_KAFKA_LISTEN", "PAYLATCH_POSTGRES_BIN", "PAYLATCH_SENDERS", // paylatch-dev
	"PAYLATCH_IMAGE", // docker-compose.yml
}

// serviceLink matches what Kubernetes sets for each Service; for one called paylatch-api the names
// begin with PAYLATCH_API. No setting may match it.
// Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var serviceLink = regexp.MustCompile(`_SERVICE_HOST=|_SERVICE_PORT(_[A-Z0-9_]+)?=|_PORT=[a-z]+://|` +
	`_PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?=`)

// unknownVariables returns the variables that are no settings. A program must start all the same:
// others may set variables with the same prefix.
func unknownVariables(environ, settings []string) (unknown []UnknownVariable) {
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		switch {
		case !strings.HasPrefix(name, variablePrefix), serviceLink.MatchString(variable):
		case strings.HasPrefix(name, variablePrefix+"TEST_"): // Of the project's own tests.
		case slices.Contains(settings, name), slices.Contains(OtherVariables, name):
		default:
			unknown = append(unknown, UnknownVariable{name, nearest(name, settings)})
		}
	}
	slices.SortFunc(unknown, func(a, b UnknownVariable) int { return strings.Compare(a.Name, b.Name) })
	return unknown
}

// nearest returns the setting with the fewest edits to name, if they are at most a third of it.
func nearest(name string, settings []string) (best string) {
	name = strings.TrimPrefix(name, variablePrefix)
	fewest := max(1, len(name)/3) + 1
	for _, setting := range settings {
		if n := edits(name, strings.TrimPrefix(setting, variablePrefix)); n < fewest {
			best, fewest = setting, n
		}
	}
	return best
}

// edits returns the Levenshtein distance of two names.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
