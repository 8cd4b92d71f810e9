package embedded

import (
	"fmt"
	"io"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// library is fergusstrange/embedded-postgres, used for what happens once: fetching binaries and
// initialising data. It is kept away from existing data, since it removes them when their version
// is not the one it expects (dataDirIsValid, cleanDataDirectoryAndInit). Running the server is ours
// too (server.go): the library offers neither its log as it is written nor a stop as by a crash.
type library struct {
	version  embeddedpostgres.PostgresVersion
	binaries string // the directory above bin; filled if it has no bin/pg_ctl
	archive  string // where to keep what is fetched
	data     string // made; whatever is there is removed
	scratch  string
	password string
	log      io.Writer
}

// initialise makes data with our role and our database, and leaves the server stopped. The library
// must have it run for that, and over TCP, so it needs a port, which another process may take
// between our look and its use.
func (l library) initialise() error {
	const tries = 5
	var err error
	for range tries {
		err = l.initialiseOnce()
		if err == nil || !saysPortInUse(err.Error()) {
			break
		}
	}
	if err != nil {
		// Its errors hold whole logs. Those belong into the log; the caller quotes the line that
		// matters.
		_, _ = fmt.Fprintln(l.log, err)
	}
	return err
}

func (l library) initialiseOnce() error {
	// Otherwise the second try would find what the first one initialised, take it for finished, and
	// make no database.
	if err := removeAll(l.data); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	p := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(l.version).
		Port(uint32(port)).
		Username(roleName).
		Password(l.password).
		Database(databaseName).
		Encoding("UTF8").
		Locale("C").
		BinariesPath(l.binaries).
		CachePath(l.archive).
		DataPath(l.data).
		RuntimePath(filepath.Join(l.scratch, "runtime")).
		StartParameters(map[string]string{"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}).
		Logger(l.log))
	if err := p.Start(); err != nil {
		return err
	}
	return p.Stop()
}
