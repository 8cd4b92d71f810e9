package app

import (
	"fmt"

	"github.com/paylatch/paylatch/internal/api"
)

// connectionsWithin returns how many connections clients may have if the process may open filesMax
// files. They get at most half. The other half is for connections to PostgreSQL and Kafka, the
// admin listener, and files: about five for each partition that a sender owns.
//
// wanted is the setting; 0 is as many as possible, at most api.ConnectionsMaxDefault.
func connectionsWithin(wanted, filesMax int) (int, error) {
	half := filesMax / 2
	if wanted == 0 {
		return max(1, min(half, api.ConnectionsMaxDefault)), nil
	}
	if wanted > half {
		return 0, fmt.Errorf("--connections: %d is more than half of the %d files that this process may open: "+
			"give at most %d, or raise the limit (ulimit -n)", wanted, filesMax, half)
	}
	return wanted, nil
}
