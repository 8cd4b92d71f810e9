package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/brokers"
)

const (
	// adminAddress is the listener for this machine.
	adminAddress = "127.0.0.1:9592"
	grantTimeout = time.Minute
	topic        = "payments"
	iterations   = 8192
)

// rights are those of docs/rights.md, by principal.
var rights = map[string][]*kadm.ACLBuilder{
	"sender": {
		onTopic(kadm.OpRead, kadm.OpWrite, kadm.OpDescribeConfigs),
		kadm.NewACLs().Operations(kadm.OpWrite).TransactionalIDs(topic + "-").
			ResourcePatternType(kadm.ACLPatternPrefixed),
		kadm.NewACLs().Operations(kadm.OpClusterAction).Clusters().ResourcePatternType(kadm.ACLPatternLiteral),
	},
	"operator": {onTopic(kadm.OpRead, kadm.OpDescribeConfigs, kadm.OpCreate, kadm.OpAlter)},
	"verifier": {onTopic(kadm.OpRead)},
}

func onTopic(operations ...kadm.ACLOperation) *kadm.ACLBuilder {
	return kadm.NewACLs().Operations(operations...).Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral)
}

// grant creates the user of SCRAM and gives each principal its rights. It may run again.
func grant(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	host := func(name string) string { return filepath.Join(dir, "host", name) }
	settings := brokers.Settings{
		KafkaBrokers: brokers.Addresses{adminAddress}, KafkaTLS: "on", KafkaTLSCA: host("ca.pem"),
		KafkaTLSCert: host("admin.pem"), KafkaTLSKey: host("admin-key.pem"),
	}
	access, err := settings.KafkaAccess()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(access.Options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	password, err := os.ReadFile(filepath.Join(dir, "paylatch", "kafka-password"))
	if err != nil {
		return err
	}
	users, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{
		User: "sender", Mechanism: kadm.ScramSha512, Iterations: iterations, Password: string(password),
	}})
	if err == nil {
		err = users.Error()
	}
	if err != nil {
		return err
	}
	for principal, all := range rights {
		for _, one := range all {
			results, err := admin.CreateACLs(ctx, one.Allow("User:"+principal).AllowHosts("*"))
			for _, r := range results {
				err = errors.Join(err, r.Err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
