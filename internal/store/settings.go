package store

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
)

// lockTimeout bounds the wait for a row that another transaction has locked. It is below the time
// of a request (5 s), so that the client gets a response.
const lockTimeout = "4s"

// connectionSettings are all parameters on which the meaning or the bounds of our statements
// depend. They are in the startup message, so they override the settings of the role, the database,
// the server and the URL. Every role may set each of them, from version 15 on. Source:
// https://www.postgresql.org/docs/current/runtime-config-client.html
var connectionSettings = map[string]string{
	// Text and its form.
	"client_encoding":             "UTF8",
	"datestyle":                   "ISO, YMD",
	"intervalstyle":               "postgres",
	"timezone":                    "UTC",
	"bytea_output":                "hex",
	"extra_float_digits":          "1",
	"standard_conforming_strings": "on",
	"backslash_quote":             "safe_encoding",
	"array_nulls":                 "on",
	"transform_null_equals":       "off",
	// A wait for a standby that is cancelled is reported as a warning; see commitOn.
	"client_min_messages": "warning",
	// Transactions.
	"default_transaction_isolation":  "read committed",
	"default_transaction_read_only":  "off",
	"default_transaction_deferrable": "off",
	"exit_on_error":                  "off",
	"row_security":                   "off", // An error instead of rows that a policy hides.
	// Time-outs. A statement that waits for a standby has none: PostgreSQL must not cancel it.
	"statement_timeout":                   "0",
	"lock_timeout":                        lockTimeout,
	"idle_session_timeout":                "0",
	"idle_in_transaction_session_timeout": idleInTransaction.String(),
	"client_connection_check_interval":    "1s",
	"tcp_keepalives_idle":                 "5", // A dead client is noticed within 5 + 3 × 1 s.
	"tcp_keepalives_interval":             "1",
	"tcp_keepalives_count":                "3",
	"tcp_user_timeout":                    "10000",
	// Plans. A statement is planned once for each connection, since planning costs more than
	// execution. Such a plan must not depend on how few rows there were at first. Every statement
	// on the path of a payment has an index, and a statement that reads a whole table does so with
	// these settings, too.
	"plan_cache_mode":      "force_generic_plan",
	"enable_seqscan":       "off",
	"enable_indexscan":     "on",
	"enable_indexonlyscan": "on",
	"enable_bitmapscan":    "on",
	"enable_tidscan":       "on",
	"enable_nestloop":      "on",
	// A claim walks the index in its order, and never sorts all that waits.
	"enable_sort": "off",
	"jit":         "off",
	// Where migrations create tables and functions.
	"default_tablespace":          "",
	"default_table_access_method": "heap",
	"check_function_bodies":       "on",
}

// defaultSchema holds the tables unless search_path in the URL names another schema.
const defaultSchema = "public"

// schemaForm is the form of search_path in a URL: one schema, as an unquoted identifier.
var schemaForm = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// applySettings sets connectionSettings, and the schema that the URL names, in the parameters of a
// startup message. It returns the schema.
func applySettings(params map[string]string) (schema string, err error) {
	schema = strings.TrimSpace(params["search_path"])
	if schema == "" {
		schema = defaultSchema
	}
	if !schemaForm.MatchString(schema) {
		return "", fmt.Errorf("database URL: search_path %q must name one schema, in lower case", schema)
	}
	maps.Copy(params, connectionSettings)
	// pg_temp is last, so that a temporary table hides none of ours.
	params["search_path"] = schema + ", pg_temp"
	return schema, nil
}
