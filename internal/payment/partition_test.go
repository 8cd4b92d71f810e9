package payment_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestHashSender_Vectors holds the hash against testdata/partitions.json, computed by this Python,
// which shares no code with ours:
//
//	def h(tenant, kind, number):
//	    v = 0xcbf29ce484222325
//	    for s in (tenant, kind, number):
//	        s = s.encode()
//	        for c in len(s).to_bytes(4, 'big') + s: v = (v ^ c) * 0x100000001b3 % 2**64
//	    return v    # the partition is v % 12
//
// A changed hash would put one account's payments on two partitions and lose their order.
func TestHashSender_Vectors(t *testing.T) {
	for _, v := range vectors[struct {
		Name, Tenant, Type, Number, Hash string
		Partition                        int32
	}](t, "partitions.json") {
		t.Run(v.Name, func(t *testing.T) {
			hash := payment.HashSender(v.Tenant, payment.Account{Type: v.Type, Number: payment.Private(v.Number)})
			if got := strconv.FormatUint(hash, 10); got != v.Hash {
				t.Errorf("got hash %s, want %s", got, v.Hash)
			}
			if got := payment.PartitionOf(hash, 12); got != v.Partition {
				t.Errorf("got partition %d, want %d", got, v.Partition)
			}
		})
	}
}

func TestPartitionOf(t *testing.T) {
	const hashMax = ^uint64(0)
	for _, c := range []struct {
		hash  uint64
		count int32
		want  int32
	}{
		{0, 12, 0},
		{11, 12, 11},
		{12, 12, 0},
		{hashMax, 1, 0},
		{1 << 63, 12, 8},
		{hashMax, 1<<31 - 1, 3},
		{hashMax, 12, 3}, // 2^64 - 1 = 12 * 1537228672809129301 + 3.
	} {
		if got := payment.PartitionOf(c.hash, c.count); got != c.want {
			t.Errorf("PartitionOf(%d, %d) = %d, want %d", c.hash, c.count, got, c.want)
		}
	}
}

// TestHashSender_Spread: accounts with consecutive numbers, as banks assign them, are spread evenly
// over 12 partitions.
func TestHashSender_Spread(t *testing.T) {
	const accounts, partitions = 10_000, 12
	for _, c := range []struct{ kind, form string }{
		{"checking", "%d"},
		{"checking", "%010d"},
		{"checking", "7655%05d"},
		{"iban", "DE8937040044%010d"},
		{"wallet", "w-%x"},
	} {
		t.Run(c.kind+"/"+c.form, func(t *testing.T) {
			var count [partitions]int
			for i := range accounts {
				a := payment.Account{Type: c.kind, Number: payment.Private(fmt.Sprintf(c.form, i))}
				count[payment.PartitionOf(payment.HashSender("acme", a), partitions)]++
			}
			for p, n := range count {
				if n*4*partitions < accounts*3 || n*4*partitions > accounts*5 {
					t.Errorf("partition %d: got %d of %d accounts, want at most 25%% off the mean: %d",
						p, n, accounts, count)
				}
			}
		})
	}
}
