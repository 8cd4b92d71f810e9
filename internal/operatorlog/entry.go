// Package operatorlog describes the operator's log: one row for each thing that an operator's
// command has changed, chained by hash. It computes the hashes and checks the chain. It has no I/O:
// package store writes and reads the rows.
package operatorlog

import (
	"encoding/json"
	"time"
)

// Phase is what a row records of an operation.
type Phase string

// The phases, spelled as in SQL.
const (
	// Done is an effect in the transaction of the row itself.
	Done Phase = "done"
	// Begun is an operation with an effect outside PostgreSQL, before that effect.
	Begun Phase = "begun"
	// Ended is the end of such an operation. A begun row without it has an unknown outcome: the
	// operation runs, or its process has died.
	Ended Phase = "ended"
)

// Result is how an operation with an effect outside PostgreSQL has ended.
type Result string

// The results, spelled as in SQL.
const (
	// Succeeded means that all of it is on record.
	Succeeded Result = "succeeded"
	// Failed means that it was refused, and nothing was changed.
	Failed Result = "failed"
	// Unknown means that it is not known whether, or how much of it, took effect.
	Unknown Result = "unknown"
)

// Database identifies where a row was written. A copy of the database that was restored differs in
// one of the fields. After a failover only the timeline differs.
type Database struct {
	// SystemID is the system identifier of the cluster. It is an int64 in PostgreSQL.
	SystemID int64 `json:"system_id"`
	// Timeline is that of the WAL.
	Timeline int32 `json:"timeline"`
	// DatabaseID is the oid of the database.
	DatabaseID int64 `json:"database_id"`
	// TableID is the oid of the table with the log.
	TableID int64 `json:"table_id"`
}

// Entry is a row of the log.
type Entry struct {
	Seq int64 `json:"seq"`
	// Format is that of the encoding that was hashed.
	Format int16 `json:"format"`
	// At is by the clock of PostgreSQL, in microseconds.
	At       time.Time `json:"at"`
	Database Database  `json:"database"`
	// Role is the role that has logged in to the database.
	Role string `json:"role"`
	// ClientAddress is as PostgreSQL sees it; empty for a Unix socket.
	ClientAddress string `json:"client_address"`
	Operator
	// Action is what was done. One command may do several things.
	Action string `json:"action"`
	Phase  Phase  `json:"phase"`
	// Begun is the row that began what this one ends; 0 in rows of other phases.
	Begun int64 `json:"begun,omitempty"`
	// Result is empty unless the row ends something.
	Result Result `json:"result,omitempty"`
	// Arguments, Before and After are exactly as stored, since their text is hashed.
	Arguments json.RawMessage `json:"arguments"`
	Before    json.RawMessage `json:"before"`
	After     json.RawMessage `json:"after"`
	// Previous is the hash of the row before; zeros in the first row.
	Previous Hash `json:"previous"`
	Hash     Hash `json:"hash"`
}

// Head returns the head of a log that ends with the row.
func (e Entry) Head() Head { return Head{e.Seq, e.Hash} }
