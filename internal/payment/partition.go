package payment

import (
	"encoding/binary"
	"hash/fnv"
)

// HashSender picks a payment's Kafka partition: 64-bit FNV-1a over the tenant's name, the sender account's type and its number, each
// preceded by its length in bytes as a big-endian uint32 (so that no two triples run together). All payments from one account share
// a partition, which is what their order rests on. The function is a contract: stored payments and consumers depend on it.
func HashSender(tenant string, sender Account) uint64 {
	h := fnv.New64a()
	for _, s := range []string{tenant, sender.Type, sender.Number.Reveal()} {
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(s))) //nolint:gosec // G115: bounded far below 2^32 by the checks of New.
		_, _ = h.Write(length[:])
		_, _ = h.Write([]byte(s))
	}
	return h.Sum64()
}

// PartitionOf returns the partition for a hash among count partitions.
func PartitionOf(hash uint64, count int32) int32 {
	return int32(hash % uint64(count)) //nolint:gosec // G115: less than count, which is positive.
}
