package main

import "github.com/alecthomas/kong"

// longHelp has the help texts that are too long for a struct tag.
var longHelp = kong.Vars{
	"help_server": "Base address of a replica; may be repeated or comma-separated. " +
		"PAYLATCH_SERVER, otherwise http://127.0.0.1:8080.",
	"help_key": "API key of the tenant. Prefer PAYLATCH_API_KEY: other users of this machine can see flags. " +
		"load and audit take several, of as many tenants: repeated or comma-separated.",
	"help_key_file": "A file with the API key, or with several, one in a line; read once. PAYLATCH_API_KEY_FILE.",
	"help_server_ca": "A file with the authorities that sign the certificates of https servers, in PEM form; by " +
		"default those of the system. PAYLATCH_SERVER_CA.",
	"help_client_cert": "A certificate to show to https servers. It can identify the tenant, without an API key. " +
		"PAYLATCH_CLIENT_CERT.",
	"help_simulate": "Make plausible payments, follow each until it is sent, and print their positions.",
	"help_load":     "Make payments and read them, at a rate or as fast as the responses come, and measure it.",

	"help_create_json": "Read the payment from a file, or from standard input with \"-\", instead of the flags below.",
	"help_create_key": "The key that makes retries safe. Without it a new UUIDv7, which is printed before anything " +
		"is sent.",

	"help_rate": "Open load: planned payments per second, such as 200/s, 90/m, or 100,200,400 for steps. " +
		"Status requests come on top. Latencies count from the planned time.",
	"help_in_flight": "With --rate: bound the requests in flight, 1000 unless given. A request beyond it is dropped: " +
		"counted, and not sent.",
	"help_workers": "Closed loop, without --rate: number of clients, 16 unless given. Each waits for its response.",
	"help_settle":  "With --kafka-brokers: how long to wait, after the load, for payments that are not visible yet.",
	"help_slo": "A latency that must hold, or the exit code is 4: p99=50ms for create and status, " +
		"create.p99.9=80ms, status.p95=5ms, end_to_end.p99=200ms; p50 p90 p95 p99 p99.9 max. " +
		"May be repeated or comma-separated.",
	"help_journal": "Append every key, before it is sent, and every outcome to this file: for audit.",
	"help_audit": "With --journal and --kafka-brokers: audit the journal after the load, as payclient audit does. " +
		"The report has the result.",
}
