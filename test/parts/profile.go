package parts

import (
	"context"
	"net"
	"time"

	"github.com/testcontainers/testcontainers-go"
)

// profile selects how a dependency is configured. For tests, PostgreSQL does not fsync, since no
// test needs its data after a loss of power, and addresses last over a restart. For benchmarks,
// PostgreSQL has its default settings except for buffers, as operators have, and no proxy is in
// between.
type profile bool

const (
	profileTest  profile = false
	profileBench profile = true
)

// Buffers is shared_buffers for benchmarks: a quarter of a machine with 4 GB, which PostgreSQL's
// manual (section 19.4) recommends to start with. A million payments do not fit into the default of
// 128 MB. Every second read would be a system call for a page that the kernel has.
const Buffers = "1GB"

// ownAddress returns a container's own address, or the published one where this machine cannot
// reach that, as when Docker runs in a virtual machine. On loopback a published port is served by
// docker-proxy, which copies every byte. That costs as much as the queries themselves, and appears
// in no figure.
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
