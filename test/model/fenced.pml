/*
 * Fenced delivery: two replicas, one partition, PAYMENTS payments, and at most FAULTS faults, at any step: crash, lost session (the replica goes on as a zombie), a request that is
 * lost, one that takes effect though its answer is lost, one that takes effect later, a transaction that the coordinator times out, a marker that the broker loses.
 *
 * Each step names the function that does it. Guards are left out by macros: NO_TAIL, NO_FENCE, NO_CONTINUITY, NO_STABLE_END, NO_MEMORY, MARKS_APART, ERROR_IS_NOT_SENT, NO_SETTLED,
 * NO_SETTLED_AT_REST, NO_LOCK_PROOF, ENDS_ANY.
 */
#ifndef PAYMENTS
#define PAYMENTS 2
#endif
#ifndef FAULTS
#define FAULTS 3
#endif
#define REPLICAS 2
#define NONE 255
#define LOGMAX 30 /* More than FAULTS allow; an assertion says so if not. */
#define EPOCHMAX (LOGMAX - FAULTS - REPLICAS) /* Take-overs; only without stable end = end are there so many. */

/* PostgreSQL: what is committed, and who holds what. */
#define ABSENT 0
#define CREATED 1
#define SENT 2
byte status[PAYMENTS];
byte next = 0;       /* topic_partitions.next_offset */
byte generation = 0; /* topic_partitions.generation */
byte owner = NONE;   /* The advisory lock: stickiness. */
byte row = NONE;     /* The row lock of topic_partitions. */
bool alive[REPLICAS];

#define onRecord(p) (status[p] == SENT)
#include "kafka.pml"

/* A produce request that is under way after its sender gave up on it, with its set of payments. */
byte lateProduceEpoch = NONE;
byte lateProduce = 0;

#define allSent (status[0] == SENT && status[PAYMENTS - 1] == SENT && (PAYMENTS < 3 || status[1] == SENT))
#define complete (allSent && undecided == 0)
#define inTx (alive[me] && row == me)

proctype Replica(byte me) {
	byte myEpoch = NONE, myNext, myGeneration, from, upTo, set, base, count, stable, open;
	bool recorded;

own: /* store.Session: Own, and a new one after every error: sender.fenced.failed. */
	atomic {
		if
		:: myEpoch != NONE -> abandoned[myEpoch] = true
		:: else
		fi;
		if
		:: owner == me -> owner = NONE
		:: else
		fi;
		if
		:: row == me -> row = NONE
		:: else
		fi;
		alive[me] = false;
		myEpoch = NONE; myNext = 0; myGeneration = 0; from = 0; upTo = 0; set = 0; base = 0; count = 0; stable = 0; open = 0; recorded = false
	}
	if
	:: atomic { owner == NONE && !complete -> owner = me; alive[me] = true }
	:: complete -> goto done
#ifdef NO_STABLE_END
	:: epoch >= EPOCHMAX -> goto endForEver
#endif
	fi;

takeOver: /* sender.fenced.takeOver: store.Session.Claim */
	if
#ifdef NO_STABLE_END
	:: epoch >= EPOCHMAX -> goto endForEver /* What hangs stays, and nothing may be produced: take-overs without end. */
#endif
	:: atomic { alive[me] && row == NONE && epoch < EPOCHMAX -> row = me; from = next; myGeneration = generation }
	:: !alive[me] -> goto own
	fi;
	/* kafka.Fencer.Fence: InitProducerID. A lost request changes nothing, so it is left out; a lost answer fences. */
	if
	:: atomic { true -> initProducerID(); myEpoch = epoch }
	:: atomic { fault; initProducerID(); abandoned[epoch] = true } goto own
	fi;
#ifndef NO_LOCK_PROOF
	/* store.Claim.CountTakeover: after the fence the row is still locked, so what was read of it is still true, and what an older producer has open was left before it. */
	if
	:: inTx
	:: !inTx -> goto own
	fi;
#endif
	/* recovery.JudgeStable: kafka.Cluster.Range. What is undecided although the fence has returned hangs; in NO_FENCE it is waited for. */
	if
#ifdef NO_STABLE_END
	:: upTo = leo
#else
	:: atomic { undecided == 0 -> upTo = leo }
#ifndef NO_FENCE
	:: atomic { undecided > 0 -> stableEnd(stable); upTo = leo; recorded = (stable < from) } goto endHanging
#endif
#endif
	:: !alive[me] -> goto own
	fi;
	/* sender.fenced.recover: kafka.Cluster.Read */
	atomic {
		set = 0;
#ifndef NO_TAIL
		readTail(set, from, upTo)
#endif
	}
	/* store.Claim.Recover, TakeOver, Commit */
	if
	:: atomic { inTx ->
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: set & (1 << i) -> assert(emitted[i] == 1); status[i] = SENT
			:: else
			fi
		}
		next = upTo; generation++; i = 0; row = NONE; myNext = upTo; myGeneration = generation; set = 0 }
	:: !inTx -> goto own
	:: atomic { inTx && faults > 0 -> faults--; /* The commit's answer is lost. */
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: set & (1 << i) -> status[i] = SENT
			:: else
			fi
		}
		next = upTo; generation++; i = 0; row = NONE } goto own
	:: atomic { inTx && faults > 0 -> faults-- } goto own
	fi;

pass: /* sender.fenced.pass: store.Session.HasUnsent and Claim */
	if
	:: complete -> goto own
#ifndef NO_SETTLED_AT_REST
	:: atomic { allSent && undecided > 0 -> stableEnd(stable) } /* Nothing to send: kafka.Producer.Settled. */
		if
		:: stable < myNext -> goto own
		:: else -> goto pass
		fi
#endif
	:: atomic { !allSent && alive[me] && row == NONE && (status[0] == CREATED || status[PAYMENTS - 1] == CREATED || (PAYMENTS == 3 && status[1] == CREATED)) -> row = me }
	:: !alive[me] -> goto own
	fi;
#ifndef NO_MEMORY
	if /* sender.fenced.remembers */
	:: inTx && (next != myNext || generation != myGeneration) -> goto own
	:: inTx && next == myNext && generation == myGeneration
	:: !inTx -> goto own
	fi;
#endif
	if
	:: atomic { inTx ->
		set = 0; count = 0;
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: status[i] == CREATED -> set = set | (1 << i); count++
			:: status[i] == CREATED && count > 0 -> skip /* A smaller batch. */
			:: else
			fi
		}
		i = 0 }
	:: !inTx -> goto own
	fi;
#ifdef NO_MEMORY
	myNext = next;
#endif
#ifndef NO_SETTLED
	/* kafka.Producer.Settled */
	atomic { stableEnd(stable);
		if
		:: stable < myNext -> goto own
		:: else
		fi }
#endif
	/* kafka.Producer.Produce. No session is asked here: a zombie goes on. */
	if
	:: atomic { accepted(myEpoch) -> base = leo; produceAll(set, myEpoch) }
	:: !accepted(myEpoch) -> goto own
	:: atomic { fault; /* The answer is lost. */
		if
		:: accepted(myEpoch) -> produceAll(set, myEpoch)
		:: else
		fi } goto own
	:: atomic { faults > 0 && lateProduceEpoch == NONE -> faults--; lateProduceEpoch = myEpoch; lateProduce = set } goto own
	fi;
#ifndef NO_CONTINUITY
	if
	:: base != myNext -> goto own
	:: else
	fi;
#endif
	/* kafka.Producer.Commit: EndTransaction. Only a transaction that the coordinator has under way can be committed. */
	if
	:: atomic { canEnd(myEpoch) -> decide(myEpoch, COMMITTED) }
	:: !canEnd(myEpoch) -> goto endFailed
	:: atomic { fault; endTransaction(myEpoch) } goto endFailed /* The answer is lost. */
	:: atomic { faults > 0 && lateEndEpoch == NONE -> faults--; lateEndEpoch = myEpoch } goto endFailed
	fi;
	/* store.Claim.MarkSent, Commit */
	if
#ifdef MARKS_APART
	:: atomic { inTx -> next = base + count + 1 }
		if
		:: atomic { inTx ->
#else
	:: atomic { inTx ->
#endif
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: set & (1 << i) -> assert(emitted[i] + promised[i] == 1); status[i] = SENT /* No loss. */
			:: else
			fi
		}
		next = base + count + 1; i = 0; row = NONE; myNext = next; set = 0; base = 0; count = 0 }
#ifdef MARKS_APART
		:: !inTx -> goto own
		fi
#endif
	:: !inTx -> goto own
	:: atomic { inTx && faults > 0 -> faults--; /* The commit's answer is lost. */
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: set & (1 << i) -> status[i] = SENT
			:: else
			fi
		}
		next = base + count + 1; i = 0; row = NONE } goto own
	:: atomic { inTx && faults > 0 -> faults-- } goto own
	fi;
	goto pass;

endFailed:
#ifdef ERROR_IS_NOT_SENT
	/* As if the batch were not in the log: it goes on behind what is there, with a fresh producer and without reading the tail. */
	if
	:: atomic { inTx ->
		if
		:: underWay[myEpoch] -> mark(myEpoch, ABORTED); underWay[myEpoch] = false
		:: else
		fi;
		abandoned[myEpoch] = true; epoch++; myEpoch = epoch;
		next = leo; myNext = leo; row = NONE; set = 0; base = 0; count = 0 } goto pass
	:: !inTx -> goto own
	fi;
#endif
	goto own;

endHanging: /* sender.endHanging: the marker that is lost is written, and the take-over begins anew. */
#ifndef NO_FENCE
	/* The contradiction that would halt the partition: never, as long as the log keeps what it acknowledged. */
	assert(!recorded || upTo == from - 1);
	/* kafka.Producer.EndHanging: DescribeProducers, then WriteTxnMarkers. A zombie may come late to both. */
	atomic { describeProducers(open) }
#ifdef ENDS_ANY
	if
	:: open == NONE -> goto own
	:: else
	fi;
#else
	if
	:: open == NONE || open >= myEpoch -> goto own
	:: else
	fi;
#endif
	atomic { writeTxnMarkers(open, (recorded -> COMMITTED : ABORTED)) }
#endif
	goto own;

#ifdef NO_STABLE_END
endForEver:
	false;
#endif

done: /* All is on record, and seen. */
	atomic {
		for (i : 0 .. PAYMENTS - 1) { assert(emitted[i] == 1) }
		i = 0
	}
}

/* What may happen at any time. */
proctype Environment() {
end:
	do
	/* A session is lost: its locks are free, its transaction is rolled back; the replica does not know yet. A crash is that and a restart. */
	:: atomic { faults > 0 && alive[0] -> faults--; alive[0] = false;
		if :: owner == 0 -> owner = NONE :: else fi; if :: row == 0 -> row = NONE :: else fi }
	:: atomic { faults > 0 && alive[1] -> faults--; alive[1] = false;
		if :: owner == 1 -> owner = NONE :: else fi; if :: row == 1 -> row = NONE :: else fi }
	:: atomic { faults > 0 && mayTimeOut -> faults--; timeOut() }
	/* Requests that arrive late. */
	:: atomic { lateProduceEpoch != NONE ->
		if :: accepted(lateProduceEpoch) -> produceAll(lateProduce, lateProduceEpoch) :: else fi; lateProduceEpoch = NONE; lateProduce = 0 }
	:: atomic { lateEndEpoch != NONE ->
		endTransaction(lateEndEpoch); lateEndEpoch = NONE }
	od
}

/* The last payment is created while all this goes on. */
proctype Arrival() {
	atomic { status[PAYMENTS - 1] == ABSENT -> status[PAYMENTS - 1] = CREATED }
}

init {
	atomic {
		for (i : 0 .. PAYMENTS - 2) { status[i] = CREATED }
		i = 0;
		run Replica(0); run Replica(1); run Environment(); run Arrival(); run TimeOut()
	}
}

/* Every payment is seen by consumers in the end, when the faults are over: checked with weak fairness. */
ltl emission { <> complete }
