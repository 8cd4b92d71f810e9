package payment

import (
	"encoding/binary"
	"hash/fnv"
)

// HashSender returns the hash that selects the Kafka partition of a payment. It is the 64-bit
// FNV-1a of three texts: the tenant's name, the type and the number of the sender account. Before
// each text stands its length in bytes, as a big-endian uint32, so that no two triples have the
// same input.
//
// All payments from one account are in the same partition, which keeps their order. The function is
// a contract and must never change: stored payments and consumers depend on it.
func HashSender(tenant string, sender Account) uint64 {
	h := fnv.New64a()
	for _, s := range []string{tenant, sender.Type, sender.Number.Reveal()} {
		var length [4]byte
		n := uint32(len(s))
		binary.BigEndian.PutUint32(length[:], n)
		_, _ = h.Write(length[:])
		_, _ = h.Write([]byte(s))
	}
	return h.Sum64()
}

// PartitionOf returns the partition of a hash among count partitions.
func PartitionOf(hash uint64, count int32) int32 {
	return int32(hash % uint64(count))
}
