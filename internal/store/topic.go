package store

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// topicInfo is what creates and lookups must know of the topic: its name, and how many partitions
// payments are spread over.
type topicInfo struct {
	name       string
	partitions int32
}

// topicCache caches the topic once it is set up. A payment is stored only if the count is still
// right: see create_gate_is_open.
type topicCache struct{ known atomic.Pointer[topicInfo] }

const selectTopic = `select topic, count(*)::integer from topic_partitions group by topic`

func (c *topicCache) get(ctx context.Context, q querier) (topicInfo, error) {
	if t := c.known.Load(); t != nil {
		return *t, nil
	}
	return c.load(ctx, q)
}

func (c *topicCache) load(ctx context.Context, q querier) (topicInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	rows, err := q.Query(ctx, selectTopic)
	if err != nil {
		return topicInfo{}, translate(err)
	}
	var t topicInfo
	tag, err := pgx.ForEachRow(rows, []any{&t.name, &t.partitions}, func() error { return nil })
	if err != nil {
		return topicInfo{}, translate(err)
	}
	if tag.RowsAffected() == 0 {
		return topicInfo{}, errNoTopic
	}
	c.known.Store(&t)
	return t, nil
}
