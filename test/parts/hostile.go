package parts

import "maps"

// hostile has, for each parameter that the service sets in its connections, a value that would break it,
// as SQL. Roles and databases may have any of them.
var hostile = map[string]string{
	"client_encoding":                     "'LATIN1'",
	"datestyle":                           "'German'",
	"intervalstyle":                       "'sql_standard'",
	"timezone":                            "'America/Caracas'",
	"bytea_output":                        "'escape'",
	"extra_float_digits":                  "-15",
	"standard_conforming_strings":         "off",
	"backslash_quote":                     "on",
	"array_nulls":                         "off",
	"transform_null_equals":               "on",
	"client_min_messages":                 "error",
	"default_transaction_isolation":       "'serializable'",
	"default_transaction_read_only":       "on",
	"default_transaction_deferrable":      "on",
	"exit_on_error":                       "on",
	"row_security":                        "on",
	"statement_timeout":                   "1",
	"lock_timeout":                        "1",
	"idle_session_timeout":                "50",
	"idle_in_transaction_session_timeout": "1",
	"client_connection_check_interval":    "0",
	"tcp_keepalives_idle":                 "7200",
	"tcp_keepalives_interval":             "75",
	"tcp_keepalives_count":                "9",
	"tcp_user_timeout":                    "1",
	"plan_cache_mode":                     "force_custom_plan",
	"enable_seqscan":                      "on",
	"enable_indexscan":                    "off",
	"enable_indexonlyscan":                "off",
	"enable_bitmapscan":                   "off",
	"enable_tidscan":                      "off",
	"enable_nestloop":                     "off",
	"enable_sort":                         "off",
	"jit":                                 "on",
	"default_tablespace":                  "'pg_default'",
	"default_table_access_method":         "'heap'",
	"check_function_bodies":               "off",
	"synchronous_commit":                  "off",
	"search_path":                         "'pg_catalog'",
}

// HostileSettings returns values of parameters, as SQL, with which the service must work all the same.
func HostileSettings() map[string]string { return maps.Clone(hostile) }
