/*
 * Failover to a synchronous standby: fenced delivery (see fenced.pml) on two databases, P1 and its
 * synchronous standby P2. One partition, two replicas, PAYMENTS payments, and at most FAULTS
 * faults: a lost session (the replica continues as a zombie), a lost response of a commit or a
 * produce request, an EndTransaction that takes effect late, a transaction that times out, a lost
 * marker, and a commit that becomes visible before the standby has it.
 *
 * A commit on P1 is confirmed when P2 has it, and P2 has a prefix of the commits of P1. An
 * unconfirmed commit may become visible on P1: its wait was cancelled, or P1 was restarted. P2 may
 * be promoted at any moment, once. From then on P1 is isolated (split brain): its locks do not
 * exclude sessions on P2, and none of its commits is confirmed. But its sessions continue and see
 * its rows, unconfirmed ones too.
 *
 * One client makes the payments, each after the 202 of the one before. It may reach either
 * database, and retries until it has the 202.
 *
 * A barrier (store.Claim.Confirm) is a commit on the database of the claim, by another session.
 * It begins after the step before it. On P1 it passes only if P2 was not promoted at that moment;
 * then P2 has all that was visible on P1.
 *
 * Macros leave guards out: NO_BARRIER_AT_FENCE, NO_BARRIER_AT_MARKER, NO_BARRIER_AT_COMMIT and
 * NO_BARRIER_AT_REPLAY. They weaken them: BARRIER_BEFORE_CLAIM, and BARRIER_ELSEWHERE or
 * REPLAY_ELSEWHERE (the barrier is a commit on whichever database is the primary). A cancelled
 * wait is taken for success: UNSEEN_BY_SENDER, UNSEEN_BY_API.
 *
 * Others choose what is checked. BARRIER_BEFORE_PRODUCE is an earlier place for the one before a
 * commit. REJOIN lets replica 0 open sessions on the isolated P1. DISTURBANCE checks how often
 * such a sender fences, and FENCES_MAX bounds it. MAY_BE_UNKNOWN and MAY_BE_OUT_OF_ORDER drop a
 * check.
 */
#ifndef PAYMENTS
#define PAYMENTS 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#define REPLICAS 2
#define LOGMAX 20 /* More than FAULTS allow; an assertion fails if not. */
#define EPOCHMAX (LOGMAX - 2)
#define NONE 255

/* PostgreSQL: P1 and P2. */
#define P1 0
#define P2 1
#define ABSENT 0
#define CREATED 1
#define SENT 2
byte status[2 * PAYMENTS];
#define row_of(d, p) status[(d) * PAYMENTS + (p)]
byte next[2]; /* topic_partitions.next_offset */
/* The last replica that took over. It replaces topic_partitions.generation, with fewer states. */
byte taker[2] = NONE;
/* The owner of the advisory lock and, during a claim, of the row lock of topic_partitions. */
byte owner[2] = NONE;
bool promoted; /* P2 is the primary, and P1 is isolated. */
bool lag;      /* P1 has commits that P2 does not have. */
byte known;     /* The number of payments with a 202. */
#ifdef DISTURBANCE
bool disturbed[REPLICAS]; /* The replica has fenced by the isolated P1. */
#endif
#ifdef FENCES_MAX
byte fences; /* Fences by the isolated P1. */
#endif

#define isolated(d) (promoted && (d) == P1)
#define primary promoted /* The number of the primary: 1 is P2. */
#define onRecord(p) (row_of(primary, p) == SENT)
#ifndef MAY_BE_OUT_OF_ORDER
#define ORDERED
#endif
#include "kafka.pml"

#define created(d, p) (row_of(d, p) == CREATED)
#define anyCreated(d) (created(d, 0) || created(d, PAYMENTS - 1) || (PAYMENTS == 3 && created(d, 1)))
#define complete (known == PAYMENTS && !lag && !anyCreated(primary) && openRecords == 0)
#define live (owner[d] == me)

/* The standby confirms a commit on d. It has received all commits before it, too. */
inline confirm(d) {
	if
	:: d == P1 -> d_step {
		for (i : 0 .. PAYMENTS - 1) { row_of(P2, i) = row_of(P1, i) };
		next[P2] = next[P1]; taker[P2] = taker[P1]; lag = false; i = 0 }
	:: else
	fi
}

/*
 * With all barriers no step reads the rows of an isolated P1 that has no session. They are
 * reset, so that there are fewer states.
 */
#ifdef REJOIN
#define unused(d) (false)
#else
#define unused(d) (promoted && owner[P1] == NONE)
#endif
inline forget() {
	if
	:: unused(P1) -> d_step {
		for (i : 0 .. PAYMENTS - 1) { row_of(P1, i) = ABSENT };
		next[P1] = 0; taker[P1] = NONE; i = 0 }
	:: else
	fi
}

/* A session ends: its locks are free, and its transaction is rolled back. */
inline endSession(who) {
	if
	:: owner[P1] == who -> owner[P1] = NONE
	:: owner[P2] == who -> owner[P2] = NONE
	:: else
	fi;
	forget()
}

inline barrier() {
	if
	:: atomic { !isolated(d) -> confirm(d) }
#ifdef BARRIER_ELSEWHERE
	:: isolated(d)
#else
	:: isolated(d) -> goto own
#endif
	fi
}

/* What a claim writes: the payments of a set are sent, and next_offset moves. */
inline record(to) {
	d_step {
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: set & (1 << i) ->
				assert(isolated(d) || emitted[i] + promised[i] == 1); /* No loss. */
				assert(isolated(d) || row_of(d, i) != SENT); /* No halt: not marked at another offset. */
				row_of(d, i) = SENT
			:: else
			fi
		};
		next[d] = to; taker[d] = me; i = 0
	}
}

/* store.Claim.Commit. An error leads to a new session and a takeover. */
inline commit(to) {
	if
	:: atomic { live && !isolated(d) -> record(to); confirm(d); myNext = to; set = 0; from = 0; upTo = 0; base = 0 }
	:: !live -> goto own
	/* The response is lost. */
	:: atomic { live && !isolated(d) && faults > 0 -> faults--; record(to); confirm(d) } goto own
	/* The wait is cancelled, or P1 is restarted: visible, and not confirmed. */
	:: atomic { live && d == P1 && (promoted || faults > 0) ->
		if
		:: promoted
		:: !promoted -> faults--; lag = true
		fi;
		record(to);
#ifdef UNSEEN_BY_SENDER
		myNext = to; set = 0; from = 0; upTo = 0; base = 0 }
#else
		} goto own
#endif
	fi
}

proctype Replica(byte me) {
	byte d, myEpoch = NONE, myNext, from, upTo, set, base, stable, open;
	bool recorded;

own: /* store.Store.Own, and a new session after every error: sender.partitionWorker.failed. */
	atomic {
		if
		:: myEpoch != NONE -> abandoned[myEpoch] = underWay[myEpoch]
		:: else
		fi;
		endSession(me);
		d = P1; myEpoch = NONE; myNext = 0; from = 0; upTo = 0; set = 0; base = 0;
		stable = 0; open = 0; recorded = false
	}
	/* sender.fenced.recover: store.Session.Claim. */
	if
	:: atomic { !complete && owner[P1] == NONE && !promoted -> owner[P1] = me; from = next[P1] }
	:: atomic { !complete && owner[P2] == NONE && promoted -> d = P2; owner[P2] = me; from = next[P2] }
#ifdef REJOIN
	:: atomic { !complete && owner[P1] == NONE && promoted && me == 0 -> owner[P1] = me; from = next[P1] }
#endif
	:: complete -> goto done
	fi;
#ifndef NO_BARRIER_AT_FENCE
	barrier();
#endif
	/* kafka.Fencer.Fence. Then store.Claim.CountTakeover: after the fence the row is still
	   locked. */
	atomic { epoch < EPOCHMAX ->
#ifdef FENCES_MAX
		if
		:: isolated(d) && fences == FENCES_MAX -> goto own
		:: isolated(d) && fences < FENCES_MAX -> fences++
		:: !isolated(d)
		fi;
#endif
#ifdef DISTURBANCE
		if
		:: isolated(d) -> assert(!disturbed[me]); disturbed[me] = true /* At most once. */
		:: else
		fi;
#endif
		initProducerID(); myEpoch = epoch;
		if
		:: live
		:: !live -> goto own
		fi
	}
	/*
	 * recovery.JudgeStable: kafka.Cluster.Range. What it finds must not halt the partition. Then
	 * sender.fenced.readStep: what is in the log is marked, or its row is put back.
	 */
	if
	:: atomic { openRecords == 0 ->
		upTo = leo; assert(isolated(d) || upTo >= from); /* No halt. */
		readTail(set, from, upTo) }
	:: atomic { openRecords > 0 ->
		stableEnd(stable); upTo = leo; recorded = (stable < from);
		assert(isolated(d) || !recorded || upTo == from - 1) /* No halt. */
		} goto endHanging
	:: !live -> goto own
	fi;
	commit(upTo);

batch: /* sender.partitionWorker.sendBatch: store.Session.HasUnsent */
	if
	:: complete -> goto own
	:: atomic { !anyCreated(d) && openRecords > 0 -> /* Nothing to send: kafka.Producer.AwaitStable. */
		stableEnd(stable);
		if
		:: stable < myNext -> goto own
		:: else -> stable = 0; goto batch
		fi }
	:: !live -> goto own
#ifdef BARRIER_BEFORE_CLAIM
	:: live
	fi;
	barrier();
	if
	:: atomic { live && !anyCreated(d) -> goto batch }
	:: !live -> goto own
#endif
	/* store.Session.Claim, sender.checkUnchanged */
	:: atomic { live && anyCreated(d) ->
		if
		:: next[d] != myNext || taker[d] != me -> goto own
		:: else
		fi;
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: created(d, i) -> set = set | (1 << i)
			:: created(d, i) && set > 0 -> break /* A smaller batch. */
			:: !created(d, i)
			fi
		}
		i = 0 }
	fi;
#ifdef BARRIER_BEFORE_PRODUCE
	barrier();
#endif
	/* kafka.Producer.AwaitStable, Produce: the session is not used, so a zombie continues. */
	atomic {
		stableEnd(stable);
		if
		:: stable < myNext || !accepted(myEpoch) -> goto own
		:: else -> stable = 0; base = leo; produceAll(set, myEpoch)
		fi;
		if
		:: base != myNext -> goto own
		:: base == myNext
		:: fault -> goto own /* The response is lost. */
		fi
	}
#if !defined(NO_BARRIER_AT_COMMIT) && !defined(BARRIER_BEFORE_CLAIM) && !defined(BARRIER_BEFORE_PRODUCE)
	barrier();
#endif
	/* kafka.Producer.Commit: EndTransaction. A lost response is like a late request. */
#ifndef MAY_BE_UNKNOWN
	d_step {
		for (i : 0 .. PAYMENTS - 1) { assert(!(set & (1 << i)) || row_of(P2, i) != ABSENT) } /* The standby has it. */
		i = 0 }
#endif
	if
	:: atomic { canEnd(myEpoch) -> decide(myEpoch, COMMITTED) }
	:: !canEnd(myEpoch) -> goto own
	:: atomic { faults > 0 && lateEndEpoch == NONE -> faults--; lateEndEpoch = myEpoch } goto own
	fi;
	/* store.Claim.MarkSent: next_offset follows the marker. */
	commit(base + 1 + (set & 1) + ((set >> 1) & 1) + (set >> 2));
	goto batch;

endHanging: /* recovery.EndHanging: the lost marker is written, and the takeover starts again. */
#ifndef NO_BARRIER_AT_MARKER
	barrier();
#endif
	/* kafka.Producer.EndHanging. A zombie may be late in both requests. */
	atomic { describeProducers(open);
		if
		:: open == NONE || open >= myEpoch -> goto own
		:: else
		fi }
	atomic { writeTxnMarkers(open, (recorded -> COMMITTED : ABORTED)) }
	goto own;

done: /* Every payment with a 202 was emitted, and is on record. */
	atomic {
		for (i : 0 .. PAYMENTS - 1) { assert(emitted[i] == 1 && onRecord(i)) } /* No loss. */
		i = 0
	}
}

#define posts(d) (known < PAYMENTS && row_of(d, known) == ABSENT)

/* The API, as the client sees it. A request without a 202 has a 503, or no response. */
proctype Client() {
	do
	:: known == PAYMENTS -> break
	/* The primary: the row is inserted, or read. Its commit, or the barrier, is confirmed. */
	:: atomic { known < PAYMENTS ->
		if
		:: posts(primary) -> row_of(primary, known) = CREATED
		:: else
		fi;
		confirm(primary); known++ }
	/* The row becomes visible on P1, and is not confirmed: 503. */
	:: atomic { posts(P1) && !unused(P1) && (promoted || faults > 0) ->
		if
		:: promoted
		:: !promoted -> faults--; lag = true
		fi;
		row_of(P1, known) = CREATED;
#ifdef UNSEEN_BY_API
		known++
#endif
		}
#ifdef NO_BARRIER_AT_REPLAY
	:: atomic { known < PAYMENTS && !posts(P1) -> known++ }
#endif
#ifdef REPLAY_ELSEWHERE
	:: atomic { known < PAYMENTS && !posts(P1) && promoted -> known++ }
#endif
	od
}

/* What may happen at any time. */
proctype Environment() {
end:
	do
	:: atomic { !promoted -> promoted = true; lag = false; forget() }
	:: atomic { lag -> confirm(P1) } /* The standby has caught up. */
	/* A session is lost. The replica has not seen it yet. A crash is a lost session and a
	   restart. */
	:: atomic { faults > 0 && (owner[P1] == 0 || owner[P2] == 0) -> faults--; endSession(0) }
	:: atomic { faults > 0 && (owner[P1] == 1 || owner[P2] == 1) -> faults--; endSession(1) }
	:: atomic { faults > 0 && mayTimeOut -> faults--; timeOut() }
	:: atomic { lateEndEpoch != NONE -> endTransaction(lateEndEpoch); lateEndEpoch = NONE }
	od
}

init {
	atomic { run Replica(0); run Replica(1); run Client(); run Environment(); run TimeOut() }
}

/* Consumers see every payment once the faults are over: checked with weak fairness. */
ltl emission { <> complete }
