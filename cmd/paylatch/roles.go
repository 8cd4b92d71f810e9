package main

import (
	"fmt"
	"strings"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

type rolesCommand struct {
	Only   string    `default:"all" enum:"all,sql,kafka" help:"sql for PostgreSQL alone, kafka for Kafka alone; all writes Kafka's as comments of SQL."`
	Topic  app.Topic `env:"PAYLATCH_TOPIC" default:"payments" help:"The topic that payments are emitted to."`
	Prefix string    `default:"paylatch" help:"What the names of roles and principals begin with."`
	Schema string    `default:"public" help:"The schema of the installation in its database."`
}

// Help is printed by roles --help.
func (c *rolesCommand) Help() string {
	return `Prints what each part of an installation may do in PostgreSQL and in Kafka, and connects to nothing. Execute
the SQL as the owner of the schema after each migration, and let an administrator of Kafka run the commands.`
}

// Run prints the roles.
func (c *rolesCommand) Run(out cli.Output) error {
	sql, err := store.RolesSQL(c.Schema, c.Prefix)
	if err != nil {
		return fmt.Errorf("--schema and --prefix: %w", err)
	}
	var acls strings.Builder
	for _, acl := range kafka.ACLs(string(c.Topic), c.Prefix) {
		if c.Only == "all" {
			acls.WriteString("-- ")
		}
		_, _ = fmt.Fprintln(&acls, acl)
	}
	switch c.Only {
	case "sql":
		acls.Reset()
	case "kafka":
		sql = ""
	default:
		sql += "\n-- Kafka: an administrator runs these commands. An API needs none.\n"
	}
	_, err = fmt.Fprint(out.Stdout, sql, acls.String())
	return err
}
