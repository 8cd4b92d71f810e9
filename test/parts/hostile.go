package parts

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// setting is a parameter that the service sets in its connections.
type setting struct {
	// hostile is a value, as SQL, that would break the service. Roles and databases may have it.
	hostile string
	// benign is the default, or what the connections of tests need.
	benign string
}

var settings = map[string]setting{
	"client_encoding":                     {"'LATIN1'", "UTF8"},
	"datestyle":                           {"'German'", "ISO, MDY"},
	"intervalstyle":                       {"'sql_standard'", "postgres"},
	"timezone":                            {"'America/Caracas'", "UTC"},
	"bytea_output":                        {"'escape'", "hex"},
	"extra_float_digits":                  {"-15", "1"},
	"standard_conforming_strings":         {"off", "on"},
	"backslash_quote":                     {"on", "safe_encoding"},
	"array_nulls":                         {"off", "on"},
	"transform_null_equals":               {"on", "off"},
	"client_min_messages":                 {"error", "notice"},
	"default_transaction_isolation":       {"'serializable'", "read committed"},
	"default_transaction_read_only":       {"on", "off"},
	"default_transaction_deferrable":      {"on", "off"},
	"exit_on_error":                       {"on", "off"},
	"row_security":                        {"on", "on"},
	"statement_timeout":                   {"1", "0"},
	"lock_timeout":                        {"1", "0"},
	"idle_session_timeout":                {"50", "0"},
	"idle_in_transaction_session_timeout": {"1", "0"},
	"client_connection_check_interval":    {"0", "0"},
	"tcp_keepalives_idle":                 {"7200", "0"},
	"tcp_keepalives_interval":             {"75", "0"},
	"tcp_keepalives_count":                {"9", "0"},
	"tcp_user_timeout":                    {"1", "0"},
	"plan_cache_mode":                     {"force_custom_plan", "auto"},
	"enable_seqscan":                      {"on", "on"},
	"enable_indexscan":                    {"off", "on"},
	"enable_indexonlyscan":                {"off", "on"},
	"enable_bitmapscan":                   {"off", "on"},
	"enable_tidscan":                      {"off", "on"},
	"enable_nestloop":                     {"off", "on"},
	"enable_sort":                         {"off", "on"},
	"jit":                                 {"on", "off"},
	"default_tablespace":                  {"'pg_default'", ""},
	"default_table_access_method":         {"'heap'", "heap"},
	"check_function_bodies":               {"off", "on"},
	"synchronous_commit":                  {"off", "on"},
	"search_path":                         {"'pg_catalog'", "public"},
}

// HostileSettings returns a value of each parameter, as SQL, with which the service must work.
func HostileSettings() map[string]string {
	hostile := make(map[string]string, len(settings))
	for name, s := range settings {
		hostile[name] = s.hostile
	}
	return hostile
}

// beHostile gives a database all hostile settings if PAYLATCH_TEST_HOSTILE is set, which `make
// test-hostile` does.
func beHostile(ctx context.Context, server, database string) error {
	if os.Getenv("PAYLATCH_TEST_HOSTILE") == "" {
		return nil
	}
	var sql strings.Builder
	for name, s := range settings {
		fmt.Fprintf(&sql, "alter database %s set %s = %s;", database, name, s.hostile)
	}
	return execute(ctx, server, sql.String())
}

// Connect opens a connection of a test. It does not have the settings of its database.
func Connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	beBenign(config)
	return pgx.ConnectConfig(ctx, config)
}

// Pool opens a pool of a test. Its connections do not have the settings of their database.
func Pool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	beBenign(config.ConnConfig)
	return pgxpool.NewWithConfig(ctx, config)
}

func beBenign(config *pgx.ConnConfig) {
	for name, s := range settings {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = s.benign
		}
	}
}
