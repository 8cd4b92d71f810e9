package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// replica is a running replica and its metrics.
type replica struct {
	container
	sent  int64 // Payments since its start.
	owned int   // Partitions.
}

// replicas lists the running replicas with their metrics.
func (c compose) replicas(ctx context.Context) ([]replica, error) {
	list, err := c.running(ctx)
	if err != nil {
		return nil, err
	}
	var all []replica
	for _, one := range list {
		r, err := c.measure(ctx, one)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// adminToken is the one of docker-compose.yml.
const adminToken = "demo-admin-token-guards-nothing"

// measure reads the metrics of one replica.
func (c compose) measure(ctx context.Context, one container) (replica, error) {
	address, err := c.command(ctx, "port", one.name, "8081/tcp")
	if err != nil {
		return replica{}, err
	}
	body, err := get(ctx, "http://"+address+"/metrics", adminToken)
	if err != nil {
		return replica{}, err
	}
	sent, err := metric(body, "paylatch_payments_sent_total")
	if err != nil {
		return replica{}, err
	}
	owned, err := metric(body, "paylatch_sender_partitions_owned")
	return replica{container: one, sent: int64(sent), owned: int(owned)}, err
}

// metric finds the value of a metric without labels.
func metric(body, name string) (float64, error) {
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

// balancerStats is what HAProxy counts over all replicas (section 9.1 of its Management Guide).
type balancerStats struct {
	Resent       int64 // wretr: requests sent again because a replica took one and gave no response.
	Redispatched int64 // wredis: requests sent to another replica because no connection could be made.
}

// String has the requests sent again after they had been sent, and those sent to another replica at
// once.
func (s balancerStats) String() string { return fmt.Sprintf("%d+%d", s.Resent, s.Redispatched) }

func (s balancerStats) plus(o balancerStats) balancerStats {
	return balancerStats{s.Resent + o.Resent, s.Redispatched + o.Redispatched}
}

func (s balancerStats) minus(o balancerStats) balancerStats {
	return balancerStats{s.Resent - o.Resent, s.Redispatched - o.Redispatched}
}

// balancer reads the balancer's statistics.
func (c compose) balancer(ctx context.Context) (balancerStats, error) {
	body, err := get(ctx, "http://127.0.0.1:"+statsPort+"/;csv", "")
	if err != nil {
		return balancerStats{}, err
	}
	return parseStats(body)
}

func parseStats(body string) (s balancerStats, err error) {
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(body, "# "))).ReadAll()
	if err != nil {
		return s, fmt.Errorf("the balancer's statistics: %w", err)
	}
	for _, row := range rows {
		if row[0] != "replicas" || row[1] != "BACKEND" {
			continue
		}
		value := func(name string) (n int64) {
			column := slices.Index(rows[0], name)
			if column < 0 {
				err = fmt.Errorf("the balancer's statistics have no column %s", name)
				return 0
			}
			n, convErr := strconv.ParseInt(row[column], 10, 64)
			if convErr != nil {
				err = convErr
			}
			return n
		}
		s = balancerStats{Resent: value("wretr"), Redispatched: value("wredis")}
		return s, err
	}
	return s, fmt.Errorf("the balancer's statistics have no backend replicas")
}

func get(ctx context.Context, url, token string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(body), err
}
