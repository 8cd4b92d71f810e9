package store

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

// rolesSQL is what RolesSQL returns for schema public and the prefix paylatch.
//
//go:embed roles.sql
var rolesSQL string

// roleForm is the form of the names that RolesSQL writes, as unquoted identifiers.
var roleForm = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,39}$`)

// RolesSQL returns the SQL that creates the database roles, and grants them what Store.Check
// checks and no more. The names of the roles begin with the prefix.
func RolesSQL(schema, prefix string) (string, error) {
	for _, name := range []string{schema, prefix} {
		if !roleForm.MatchString(name) {
			return "", fmt.Errorf("%q must be 1 to 40 lower-case letters, digits and underscores, not a digit first",
				name)
		}
	}
	if schema != defaultSchema {
		schema = `"` + schema + `"` // It may be a reserved word.
	}
	return strings.NewReplacer(
		"schema public", "schema "+schema, "search_path = public", "search_path = "+schema,
		"paylatch_common", prefix+"_common", "paylatch_api", prefix+"_api", "paylatch_sender", prefix+"_sender",
		"paylatch_operator", prefix+"_operator", "paylatch_retention", prefix+"_retention",
	).Replace(rolesSQL), nil
}
