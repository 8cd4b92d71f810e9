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
#define LOGMAX 30 /* More than FAULTS allow; an assertion says so if not. */
#define EPOCHMAX (LOGMAX - FAULTS - REPLICAS) /* Take-overs; only without stable end = end are there so many. */
#define NONE 255

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

/* Kafka: the log, and the coordinator of the partition's transactional id. */
#define MARKER PAYMENTS
#define OPEN 0
#define COMMITTED 1
#define ABORTED 2
byte leo = 0;
byte what[LOGMAX];
byte state[LOGMAX];
byte by[LOGMAX];
byte epoch = 0;
bool underWay[LOGMAX];   /* What the coordinator has to end, by epoch. */
byte emitted[PAYMENTS];  /* Committed records of each payment: what consumers see. */
byte promised[PAYMENTS]; /* Those that are committed by the coordinator's word, but whose marker is lost: consumers see nothing. */

/* Requests under way after their sender gave up on them; one of each kind. */
byte lateProduceEpoch = NONE;
byte lateProduce = 0; /* A set of payments. */
byte lateEndEpoch = NONE;

byte faults = FAULTS;
bool abandoned[LOGMAX]; /* Producers that were dropped, by epoch: their transactions time out by themselves. */
byte i, n;              /* Loop variables, used in atomic steps only. */
byte undecided = 0; /* Records that are open: stable end < end. */

#define fault faults > 0 -> faults--
#ifdef NO_FENCE /* Each producer has an id of its own. */
#define accepted(e) (true)
#define decidedWith(e, other) ((other) == (e))
#else           /* A marker decides all that its id has open, of that epoch and earlier ones. */
#define accepted(e) ((e) == epoch)
#define decidedWith(e, other) ((other) <= (e))
#endif

inline append(p, s, e) {
	assert(leo < LOGMAX);
	what[leo] = p; state[leo] = s; by[leo] = e; leo++;
	if
	:: s == OPEN -> undecided++
	:: else
	fi
}

/* A marker is written: what its producer has open is decided. */
inline mark(e, how) {
	for (i : 0 .. LOGMAX - 1) {
		if
		:: i < leo && state[i] == OPEN && decidedWith(e, by[i]) ->
			state[i] = how; undecided--;
			if
			:: how == COMMITTED -> emitted[what[i]]++; assert(emitted[what[i]] <= 1) /* No duplicate. */
			:: how == ABORTED -> assert(!(promised[what[i]] && status[what[i]] == SENT)) /* No loss. */
			fi;
			promised[what[i]] = 0
		:: else
		fi
	}
	append(MARKER, how, e);
	i = 0
}

/* The coordinator ends the transaction of a producer. It writes the marker, or the broker loses it: see kafka.Producer.EndHanging. */
inline decide(e, how) {
	underWay[e] = false;
	if
	:: mark(e, how)
#ifndef NO_FENCE
	:: fault;
		for (i : 0 .. LOGMAX - 1) {
			if
			:: how == COMMITTED && i < leo && state[i] == OPEN -> promised[what[i]] = 1
			:: else
			fi
		}
		i = 0
#endif
	fi
}

/* What kafka.Cluster.Range and kafka.Producer.Settled ask for: the first offset that is undecided. */
inline stableEnd(where) {
	where = leo;
	for (i : 0 .. LOGMAX - 1) {
		if
		:: i < where && state[i] == OPEN -> where = i
		:: else
		fi
	}
	i = 0
}

inline produceAll(set, e) {
	for (i : 0 .. PAYMENTS - 1) {
		if
		:: set & (1 << i) -> append(i, OPEN, e)
		:: else
		fi
	}
	underWay[e] = true;
	i = 0
}

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
	:: atomic { true ->
#ifndef NO_FENCE
		if
		:: underWay[epoch] -> decide(epoch, ABORTED)
		:: else
		fi;
#endif
		epoch++; myEpoch = epoch }
	:: atomic { fault;
#ifndef NO_FENCE
		if
		:: underWay[epoch] -> decide(epoch, ABORTED)
		:: else
		fi;
#endif
		epoch++; abandoned[epoch] = true } goto own
	fi;
#ifndef NO_LOCK_PROOF
	/* store.Claim.TakeOver: after the fence the row is still locked, so what was read of it is still true, and what an older producer has open was left before it. */
	if
	:: inTx
	:: !inTx -> goto own
	fi;
#endif
	/* sender.judgeAll: kafka.Cluster.Range. What is undecided although the fence has returned hangs; in NO_FENCE it is waited for. */
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
		for (i : 0 .. LOGMAX - 1) {
			if
			:: i >= from && i < upTo && state[i] == COMMITTED && what[i] != MARKER -> set = set | (1 << what[i])
			:: else
			fi
		}
		i = 0
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
	:: atomic { accepted(myEpoch) && underWay[myEpoch] -> decide(myEpoch, COMMITTED) }
	:: !(accepted(myEpoch) && underWay[myEpoch]) -> goto endFailed
	:: atomic { fault; /* The answer is lost. */
		if
		:: accepted(myEpoch) && underWay[myEpoch] -> decide(myEpoch, COMMITTED)
		:: else
		fi } goto endFailed
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
	atomic {
		open = NONE;
		for (i : 0 .. LOGMAX - 1) {
			if
			:: i < leo && state[i] == OPEN -> open = by[i] /* The last: the epoch of a producer is that of its last batch. */
			:: else
			fi
		}
		i = 0 }
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
	atomic { /* The broker refuses an epoch that is older than what it has from the id. */
		n = 0;
		for (i : 0 .. LOGMAX - 1) { if :: i < leo && by[i] > open -> n = 1 :: else fi }
		i = 0;
		if
		:: n == 1
		:: n == 0 && recorded -> mark(open, COMMITTED)
		:: n == 0 && !recorded -> mark(open, ABORTED)
		fi;
		n = 0 }
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
	/* The coordinator's time-out, of a slow producer. */
	:: atomic { faults > 0 && leo > 0 && state[leo - 1] == OPEN && underWay[by[leo - 1]] -> faults--; n = by[leo - 1]; decide(n, ABORTED);
		if :: n == epoch -> epoch++ :: else fi; n = 0 }
	/* Requests that arrive late. */
	:: atomic { lateProduceEpoch != NONE ->
		if :: accepted(lateProduceEpoch) -> produceAll(lateProduce, lateProduceEpoch) :: else fi; lateProduceEpoch = NONE; lateProduce = 0 }
	:: atomic { lateEndEpoch != NONE ->
		if :: accepted(lateEndEpoch) && underWay[lateEndEpoch] -> decide(lateEndEpoch, COMMITTED) :: else fi; lateEndEpoch = NONE }
	od
}

/* The last payment is created while all this goes on. */
proctype Arrival() {
	atomic { status[PAYMENTS - 1] == ABSENT -> status[PAYMENTS - 1] = CREATED }
}

/* The coordinator's time-out, of producers that were dropped: it comes by itself. */
proctype TimeOut() {
end:
	do
	:: atomic { undecided > 0 -> n = 0;
		for (i : 0 .. LOGMAX - 1) { if :: i < leo && state[i] == OPEN && abandoned[by[i]] && underWay[by[i]] -> n = by[i] :: else fi }
		i = 0; if :: n > 0 -> decide(n, ABORTED) :: else fi; n = 0 }
	od
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
