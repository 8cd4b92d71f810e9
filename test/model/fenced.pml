/*
 * Fenced delivery: two replicas, one partition, PAYMENTS payments, and at most FAULTS faults at any
 * step: a crash, a lost session (the replica continues as a zombie), a lost request, a request that
 * takes effect although its response is lost, a request that takes effect late, a transaction that
 * the coordinator times out, and a marker that the broker loses.
 *
 * Each step names its function. Macros leave guards out: NO_TAIL, NO_FENCE, NO_CONTINUITY,
 * NO_STABLE_END, NO_MEMORY, MARKS_APART, ERROR_IS_NOT_SENT, NO_SETTLED, NO_SETTLED_AT_REST,
 * NO_LOCK_PROOF, ENDS_ANY.
 */
#ifndef PAYMENTS
#define PAYMENTS 2
#endif
#ifndef FAULTS
#define FAULTS 3
#endif
#define REPLICAS 2
#define NONE 255
#define LOGMAX 30 /* More than FAULTS allow; an assertion fails if not. */
/* The largest number of takeovers. It is reached only without stable end = end. */
#define EPOCHMAX (LOGMAX - FAULTS - REPLICAS)

/* PostgreSQL: what is committed, and the owners of locks. */
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

/* A produce request that takes effect after its sender gave up, with its set of payments. */
byte lateProduceEpoch = NONE;
byte lateProduce = 0;

#define allSent (status[0] == SENT && status[PAYMENTS - 1] == SENT && (PAYMENTS < 3 || status[1] == SENT))
#define complete (allSent && openRecords == 0)
#define inTx (alive[me] && row == me)

proctype Replica(byte me) {
	byte myEpoch = NONE, myNext, myGeneration, from, upTo, set, base, count, stable, open;
	bool recorded;

own: /* store.Store.Own, and a new session after every error: sender.partitionWorker.failed. */
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
		myEpoch = NONE; myNext = 0; myGeneration = 0; from = 0; upTo = 0; set = 0; base = 0; count = 0;
		stable = 0; open = 0; recorded = false
	}
	if
	:: atomic { owner == NONE && !complete -> owner = me; alive[me] = true }
	:: complete -> goto done
#ifdef NO_STABLE_END
	:: epoch >= EPOCHMAX -> goto endForEver
#endif
	fi;

takeOver: /* sender.fenced.recover: store.Session.Claim */
	if
#ifdef NO_STABLE_END
	:: epoch >= EPOCHMAX -> goto endForEver /* The transaction stays open: takeovers without end. */
#endif
	:: atomic { alive[me] && row == NONE && epoch < EPOCHMAX -> row = me; from = next; myGeneration = generation }
	:: !alive[me] -> goto own
	fi;
	/*
	 * kafka.Fencer.Fence: InitProducerID. A lost request changes nothing, so it is not modelled. A
	 * request whose response is lost fences.
	 */
	if
	:: atomic { true -> initProducerID(); myEpoch = epoch }
	:: atomic { fault; initProducerID(); abandoned[epoch] = true } goto own
	fi;
#ifndef NO_LOCK_PROOF
	/*
	 * store.Claim.CountTakeover: the row is still locked after the fence. So what was read of it is
	 * still true, and what an older producer has open was left before.
	 */
	if
	:: inTx
	:: !inTx -> goto own
	fi;
#endif
	/*
	 * recovery.JudgeStable: kafka.Cluster.Range. A transaction that is still open after the fence
	 * is hanging. With NO_FENCE the takeover waits for it.
	 */
	if
#ifdef NO_STABLE_END
	:: upTo = leo
#else
	:: atomic { openRecords == 0 -> upTo = leo }
#ifndef NO_FENCE
	:: atomic { openRecords > 0 -> stableEnd(stable); upTo = leo; recorded = (stable < from) } goto endHanging
#endif
#endif
	:: !alive[me] -> goto own
	fi;
	/* sender.fenced.readStep: kafka.Cluster.Read */
	atomic {
		set = 0;
#ifndef NO_TAIL
		readTail(set, from, upTo)
#endif
	}
	/* store.Claim.Recover, Commit */
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
	:: atomic { inTx && faults > 0 -> faults--; /* The response to the commit is lost. */
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: set & (1 << i) -> status[i] = SENT
			:: else
			fi
		}
		next = upTo; generation++; i = 0; row = NONE } goto own
	:: atomic { inTx && faults > 0 -> faults-- } goto own
	fi;

batch: /* sender.partitionWorker.sendBatch: store.Session.HasUnsent and Claim */
	if
	:: complete -> goto own
#ifndef NO_SETTLED_AT_REST
	:: atomic { allSent && openRecords > 0 -> stableEnd(stable) } /* Nothing to send: kafka.Producer.AwaitStable. */
		if
		:: stable < myNext -> goto own
		:: else -> goto batch
		fi
#endif
	:: atomic { !allSent && alive[me] && row == NONE &&
		(status[0] == CREATED || status[PAYMENTS - 1] == CREATED || (PAYMENTS == 3 && status[1] == CREATED)) ->
		row = me }
	:: !alive[me] -> goto own
	fi;
#ifndef NO_MEMORY
	if /* sender.checkUnchanged */
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
	/* kafka.Producer.AwaitStable */
	atomic { stableEnd(stable);
		if
		:: stable < myNext -> goto own
		:: else
		fi }
#endif
	/* kafka.Producer.Produce. The session is not used here: a zombie continues. */
	if
	:: atomic { accepted(myEpoch) -> base = leo; produceAll(set, myEpoch) }
	:: !accepted(myEpoch) -> goto own
	:: atomic { fault; /* The response is lost. */
		if
		:: accepted(myEpoch) -> produceAll(set, myEpoch)
		:: else
		fi } goto own
	:: atomic { faults > 0 && lateProduceEpoch == NONE ->
		faults--; lateProduceEpoch = myEpoch; lateProduce = set } goto own
	fi;
#ifndef NO_CONTINUITY
	if
	:: base != myNext -> goto own
	:: else
	fi;
#endif
	/* kafka.Producer.Commit: EndTransaction. Only an open transaction can be committed. */
	if
	:: atomic { canEnd(myEpoch) -> decide(myEpoch, COMMITTED) }
	:: !canEnd(myEpoch) -> goto endFailed
	:: atomic { fault; endTransaction(myEpoch) } goto endFailed /* The response is lost. */
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
	:: atomic { inTx && faults > 0 -> faults--; /* The response to the commit is lost. */
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: set & (1 << i) -> status[i] = SENT
			:: else
			fi
		}
		next = base + count + 1; i = 0; row = NONE } goto own
	:: atomic { inTx && faults > 0 -> faults-- } goto own
	fi;
	goto batch;

endFailed:
#ifdef ERROR_IS_NOT_SENT
	/*
	 * The batch is taken as not in the log: the next one follows with a new producer, and the tail
	 * is not read.
	 */
	if
	:: atomic { inTx ->
		if
		:: underWay[myEpoch] -> mark(myEpoch, ABORTED); underWay[myEpoch] = false
		:: else
		fi;
		abandoned[myEpoch] = true; epoch++; myEpoch = epoch;
		next = leo; myNext = leo; row = NONE; set = 0; base = 0; count = 0 } goto batch
	:: !inTx -> goto own
	fi;
#endif
	goto own;

endHanging: /* recovery.EndHanging: the lost marker is written, and the takeover starts again. */
#ifndef NO_FENCE
	/*
	 * The contradiction that would halt the partition. It does not occur while the log keeps what
	 * it acknowledged.
	 */
	assert(!recorded || upTo == from - 1);
	/* kafka.Producer.EndHanging: DescribeProducers, WriteTxnMarkers. A zombie may be late in
	   both. */
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

done: /* All payments are on record, and consumers see them. */
	atomic {
		for (i : 0 .. PAYMENTS - 1) { assert(emitted[i] == 1) }
		i = 0
	}
}

/* What may happen at any time. */
proctype Environment() {
end:
	do
	/*
	 * A session is lost: its locks are free, its transaction is rolled back, and the replica has
	 * not seen it yet. A crash is a lost session and a restart.
	 */
	:: atomic { faults > 0 && alive[0] -> faults--; alive[0] = false;
		if :: owner == 0 -> owner = NONE :: else fi; if :: row == 0 -> row = NONE :: else fi }
	:: atomic { faults > 0 && alive[1] -> faults--; alive[1] = false;
		if :: owner == 1 -> owner = NONE :: else fi; if :: row == 1 -> row = NONE :: else fi }
	:: atomic { faults > 0 && mayTimeOut -> faults--; timeOut() }
	/* Requests that arrive late. */
	:: atomic { lateProduceEpoch != NONE ->
		if :: accepted(lateProduceEpoch) -> produceAll(lateProduce, lateProduceEpoch) :: else fi;
		lateProduceEpoch = NONE; lateProduce = 0 }
	:: atomic { lateEndEpoch != NONE ->
		endTransaction(lateEndEpoch); lateEndEpoch = NONE }
	od
}

/* The last payment is created at any time. */
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

/* Consumers see every payment once the faults are over: checked with weak fairness. */
ltl emission { <> complete }
