package store

// outcome is what an error of PostgreSQL means for the request.
type outcome int

// The outcomes. The zero value is the strictest one, so that an unknown code is reported and not
// retried.
const (
	// The statement or the schema is wrong: the same request fails again.
	bug         outcome = iota
	notNow              // The same request may succeed later.
	notMigrated         // The schema lacks what this program needs.
)

// classOutcomes has all classes of SQLSTATE, by their first two characters. Source:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
var classOutcomes = map[string]outcome{
	"00": bug,    // Successful completion: no error has it.
	"01": bug,    // Warning: no error has it.
	"02": bug,    // No data.
	"03": bug,    // SQL statement not yet complete.
	"08": notNow, // Connection exception.
	"09": bug,    // Triggered action exception.
	"0A": bug,    // Feature not supported.
	"0B": bug,    // Invalid transaction initiation.
	"0F": bug,    // Locator exception.
	"0L": bug,    // Invalid grantor.
	"0P": bug,    // Invalid role specification.
	"0Z": bug,    // Diagnostics exception.
	"10": bug,    // XQuery error.
	"20": bug,    // Case not found.
	"21": bug,    // Cardinality violation.
	"22": bug,    // Data exception.
	"23": bug,    // Integrity constraint violation: payment.New checks the same rules.
	"24": bug,    // Invalid cursor state.
	"25": bug,    // Invalid transaction state.
	"26": notNow, // Invalid SQL statement name: a prepared statement was lost; see sessionFault.
	"27": bug,    // Triggered data change violation.
	"28": notNow, // Invalid authorization specification: a password was just changed, say.
	"2B": bug,    // Dependent privilege descriptors still exist.
	"2D": bug,    // Invalid transaction termination.
	"2F": bug,    // SQL routine exception.
	"34": bug,    // Invalid cursor name.
	"38": bug,    // External routine exception.
	"39": bug,    // External routine invocation exception.
	"3B": bug,    // Savepoint exception.
	"3D": notNow, // Invalid catalog name: the database is being restored.
	"3F": notMigrated,
	"40": notNow, // Transaction rollback: deadlock, serialization, statement completion unknown.
	"42": bug,    // Syntax error or access rule violation.
	"44": bug,    // WITH CHECK OPTION violation.
	"53": notNow, // Insufficient resources: too many connections, disk full, out of memory.
	"54": bug,    // Program limit exceeded.
	// Object not in prerequisite state: a lock, or a setting that an operator must mend.
	"55": notNow,
	"57": notNow, // Operator intervention: shutdown, cancelled, time-outs.
	"58": notNow, // System error: an I/O error of the server's.
	"72": notNow, // Snapshot failure.
	"F0": notNow, // Configuration file error.
	"HV": bug,    // Foreign data wrapper error: nothing here uses one.
	"P0": bug,    // PL/pgSQL error.
	"XX": bug,    // Internal error, corrupted data or index.
}

// codeOutcomes has the codes whose outcome differs from that of their class.
var codeOutcomes = map[string]outcome{
	"25006": notNow,      // Read-only transaction: the server is a standby.
	"25P02": notNow,      // In failed transaction: the error before it says why.
	"25P03": notNow,      // Idle in transaction for too long.
	"25P04": notNow,      // Transaction time-out.
	"42501": notNow,      // Insufficient privilege: an operator grants it.
	"42703": notMigrated, // Undefined column.
	"42883": notMigrated, // Undefined function.
	"42P01": notMigrated, // Undefined table.
	"42P05": notNow,      // Duplicate prepared statement; see sessionFault.
	"55P02": bug,         // The parameter cannot be changed now.
	"55P04": bug,         // Unsafe new enum value usage.
}

// outcomeOf classifies an error of PostgreSQL by its SQLSTATE, never by its text.
func outcomeOf(code string) outcome {
	if o, ok := codeOutcomes[code]; ok {
		return o
	}
	if len(code) < 2 {
		return bug
	}
	return classOutcomes[code[:2]]
}

// sessionFaults are the codes that concern the session and not the statement. A session that
// returns one is closed and not used again, since another session does not have the fault.
var sessionFaults = map[string]bool{
	"25001": true, // Active transaction.
	"25006": true, // Read-only: after a failover a new session leads to the primary.
	"25P01": true, // No active transaction.
	"25P02": true, // In failed transaction.
	"26000": true, // A prepared statement that the session does not know.
	"42P05": true, // A prepared statement that the session has already.
	"0A000": true, // A cached plan must not change its result type: the schema was migrated.
	"3D000": true, // The database was dropped.
}

// sessionFault reports whether an error makes the session useless: the connection or the server
// ends (classes 08 and 57P), or it is one of sessionFaults.
func sessionFault(code string) bool {
	return sessionFaults[code] || len(code) == 5 && (code[:2] == "08" || code[:3] == "57P")
}
