/*
 * Kafka, for the models that include this file: the log of one partition, and the coordinator of
 * one transactional id. The including file defines PAYMENTS, FAULTS, LOGMAX, NONE, and onRecord(p),
 * which is true if the database has payment p as sent.
 *
 * Macros: with ORDERED the log is checked for the order of payments; with NO_FENCE each producer
 * has a transactional id of its own.
 */
#define MARKER PAYMENTS
#define OPEN 0
#define COMMITTED 1
#define ABORTED 2

/*
 * The log: for each offset the payment, the state of the record, and its epoch. What no step
 * reads is reset, so that there are fewer states: the payment of an aborted record, and the epochs
 * of ended transactions. A marker is MARKER, and so is an aborted record.
 */
byte leo = 0;
byte what[LOGMAX];
byte state[LOGMAX];
byte by[LOGMAX];
/* The latest epoch in the log. */
byte latest = 0;
/* Records that are open. The last stable offset is below the end of the log if there are any. */
byte openRecords = 0;

/* The coordinator: the present epoch, and for each epoch whether a transaction is open. */
byte epoch = 0;
bool underWay[LOGMAX];
/* The committed records of each payment, as read_committed consumers see them. */
byte emitted[PAYMENTS];
/* The coordinator has committed these records, but their marker is lost: consumers see nothing. */
byte promised[PAYMENTS];
/* Epochs of producers that were dropped. Their transactions time out by themselves. */
bool abandoned[LOGMAX];

/* An EndTransaction that takes effect after its sender gave up. */
byte lateEndEpoch = NONE;

byte faults = FAULTS;
/* Loop variables, used in atomic steps only. */
byte i, n;

#define fault faults > 0 -> faults--
#ifdef NO_FENCE
#define accepted(e) (true)
#define decidedWith(e, other) ((other) == (e))
#else
/* A marker ends all open transactions of its producer id, of that epoch and of earlier ones. */
#define accepted(e) ((e) == epoch)
#define decidedWith(e, other) ((other) <= (e))
#endif

inline append(p, s, e) {
	assert(leo < LOGMAX);
	what[leo] = p; state[leo] = s;
	if
	:: s == OPEN -> openRecords++; by[leo] = e
	:: else
	fi;
	leo++;
	if
	:: e > latest -> latest = e
	:: else
	fi
}

/* A marker is written: the open records of its producer are committed or aborted. */
inline mark(e, how) {
	d_step {
		for (i : 0 .. LOGMAX - 1) {
			if
			:: i < leo && state[i] == OPEN && decidedWith(e, by[i]) ->
				state[i] = how; openRecords--;
				if
				:: how == COMMITTED ->
					emitted[what[i]]++;
					assert(emitted[what[i]] <= 1); /* No duplicate. */
#ifdef ORDERED
					assert(what[i] == PAYMENTS - 1 || emitted[what[i] + 1] == 0) /* In order. */
#endif
				:: how == ABORTED -> assert(!(promised[what[i]] && onRecord(what[i]))) /* No loss. */
				fi;
				promised[what[i]] = 0; by[i] = 0;
				if
				:: how == ABORTED -> what[i] = MARKER; state[i] = COMMITTED
				:: else
				fi
			:: else
			fi
		}
	};
	append(MARKER, COMMITTED, e);
	i = 0
}

/* The coordinator ends a transaction. The broker writes the marker, or loses it. */
inline decide(e, how) {
	underWay[e] = false;
	if
	:: mark(e, how)
#ifndef NO_FENCE
	:: fault;
		d_step {
			for (i : 0 .. LOGMAX - 1) {
				if
				:: how == COMMITTED && i < leo && state[i] == OPEN -> promised[what[i]] = 1
				:: else
				fi
			}
		};
		i = 0
#endif
	fi
}

/* InitProducerID: it ends the open transaction, and returns a new epoch. */
inline initProducerID() {
#ifndef NO_FENCE
	if
	:: underWay[epoch] -> decide(epoch, ABORTED)
	:: else
	fi;
#endif
	epoch++
}

/* EndTransaction, commit: the coordinator commits only an open transaction. */
#define canEnd(e) (accepted(e) && underWay[e])
inline endTransaction(e) {
	if
	:: canEnd(e) -> decide(e, COMMITTED)
	:: else
	fi
}

/* The last stable offset: the first offset that is open, or the end of the log. */
inline stableEnd(where) {
	where = leo;
	d_step {
		for (i : 0 .. LOGMAX - 1) {
			if
			:: i < where && state[i] == OPEN -> where = i
			:: else
			fi
		}
	};
	i = 0
}

inline produceAll(set, e) {
	d_step {
		for (i : 0 .. PAYMENTS - 1) {
			if
			:: set & (1 << i) -> append(i, OPEN, e)
			:: else
			fi
		}
	};
	underWay[e] = true;
	i = 0
}

/* The payments that a read_committed consumer sees from one offset up to another. */
inline readTail(set, from, upTo) {
	set = 0;
	d_step {
		for (i : 0 .. LOGMAX - 1) {
			if
			:: i >= from && i < upTo && state[i] == COMMITTED && what[i] != MARKER -> set = set | (1 << what[i])
			:: else
			fi
		}
	};
	i = 0
}

/* DescribeProducers: the epoch of a producer is that of its last batch. */
inline describeProducers(open) {
	open = NONE;
	d_step {
		for (i : 0 .. LOGMAX - 1) {
			if
			:: i < leo && state[i] == OPEN -> open = by[i]
			:: else
			fi
		}
	};
	i = 0
}

/* WriteTxnMarkers: the broker refuses an epoch older than the last one of the id. */
inline writeTxnMarkers(open, how) {
	if
	:: latest > open
	:: else -> mark(open, how)
	fi
}

/* The transaction of a slow producer times out. */
#define mayTimeOut (leo > 0 && state[leo - 1] == OPEN && underWay[by[leo - 1]])
inline timeOut() {
	n = by[leo - 1];
	decide(n, ABORTED);
	if
	:: n == epoch -> epoch++
	:: else
	fi;
	n = 0
}

/* The transactions of dropped producers time out by themselves. */
proctype TimeOut() {
end:
	do
	:: atomic { openRecords > 0 ->
		n = 0;
		d_step {
			for (i : 0 .. LOGMAX - 1) {
				if
				:: i < leo && state[i] == OPEN && abandoned[by[i]] && underWay[by[i]] -> n = by[i]
				:: else
				fi
			}
		};
		i = 0;
		if
		:: n > 0 -> decide(n, ABORTED)
		:: else
		fi;
		n = 0 }
	od
}
