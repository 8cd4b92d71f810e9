package parts

import (
	"context"
	"net"
	"time"

	"github.com/testcontainers/testcontainers-go"
)

// purpose is what a part is for. Tests have a hasty PostgreSQL, since a loss of power is no loss to
// them, and addresses that last over a restart. What is measured has PostgreSQL with its default
// settings but for buffers, as operators do, and is reached without detours.
type purpose bool

const (
	tests     purpose = false
	measuring purpose = true
)

// Buffers is shared_buffers of what is measured: what PostgreSQL's manual (section 19.4) starts
// from on a machine of 4 GB, a quarter. The default of 128 MB is meant to start anywhere; a million
// payments do not fit into it, and every second read is then a system call to fetch a page that the
// kernel has.
const Buffers = "1GB"

// ownAddress is a container's own address, or the published one where this machine cannot reach
// that, as when Docker runs in a virtual machine. A published port of loopback is served by a
// process of Docker's, docker-proxy, that copies every byte, at a cost like that of the queries
// themselves and told in nobody's figure.
func ownAddress(ctx context.Context, c testcontainers.Container, port, published string) string {
	const reachTimeout = time.Second
	ip, err := c.ContainerIP(ctx)
	if err != nil || ip == "" {
		return published
	}
	own := net.JoinHostPort(ip, port)
	conn, err := net.DialTimeout("tcp", own, reachTimeout)
	if err != nil {
		return published
	}
	_ = conn.Close()
	return own
}
