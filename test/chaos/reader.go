package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/paylatch/paylatch/internal/auditor"
)

// table reads all payments.
func (p *postgres) table(ctx context.Context) ([]row, error) {
	rows, err := p.pool.Query(ctx, `select id, partition::int, coalesce(kafka_offset, -1) from payments`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		if err := rows.Scan((*[16]byte)(&r.id), &r.partition, &r.offset); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// verify runs `paylatch verify`. It ignores the exit code, since the report has the same result.
func verify(ctx context.Context, binary string, env []string) (report auditor.Report, err error) {
	cmd := exec.CommandContext(ctx, binary, "verify", "--json")
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if jsonErr := json.Unmarshal(stdout.Bytes(), &report); jsonErr != nil {
		return report, fmt.Errorf("paylatch verify: %w: %.2000s", errors.Join(err, jsonErr), stderr.String())
	}
	return report, nil
}
