/*
 * The floor under the claims of one owner (internal/store/floor.go): CREATES creates, of which any
 * may be rolled back, and at most BATCHES batches, of which any may fail. Any step may happen
 * between two steps of the owner, also within the statement that takes its transaction id.
 *
 * Macros add steps: RESEND, an operator has sent payments sent again; SET_BACK, an operator sets
 * the sequence back by hand; LOCKED, the other delivery, with rows that another session locks.
 *
 * Macros leave rules out: NO_GATE, ID_BEFORE_READ, NO_XMIN, BEFORE_COMMIT, PASSES_SKIPPED,
 * NO_GENERATION, NO_ROW, NO_LAST. With RISES the assertion is that the floor does not rise, which
 * must fail.
 *
 * Not modelled: more than two payments in a batch, and a lost session, which ends the floor.
 */
#ifndef CREATES
#define CREATES 2
#endif
#ifndef BATCHES
#define BATCHES 5
#endif
#define IDS (CREATES + BATCHES + 1) /* Transaction ids: from 1, one for each create and batch. */
#define NONE 255

/* PostgreSQL. */
byte nextId = 1;
bool running[IDS];
byte last = 0;     /* The sequence. */
byte limit = NONE; /* After it was set back it stays below, until the owner has read it. */
#define ABSENT 0
#define UNSENT 1
#define SENT 2
byte status[CREATES]; /* Of committed payments. */
byte seq[CREATES];
byte generation = 0, version = 0; /* Of the partition's row. */
bool held = false;                /* The owner has locked that row. */
byte locked = NONE;               /* A payment that another session has locked. */

/* The owner: see the fields of floor. */
byte floor = 0, floorLast = 0, number = 0, xid = 0, complete = 0, floorGeneration = 0;
byte kept = 0; /* The version of the row that it left. */
byte lastSeen = 0;
byte i;        /* A loop variable, used in atomic steps only. */
bool passedOver = false;

inline takeId(id) {
	assert(nextId < IDS);
	id = nextId; running[id] = true; nextId++
}

inline takeXmin(xmin) {
	xmin = nextId;
	for (i : 1 .. IDS - 1) {
		if
		:: running[i] && i < xmin -> xmin = i
		:: else
		fi
	}
	i = 0
}

inline readLast(into) {
	into = last; lastSeen = last; limit = NONE;
#ifdef NO_LAST
	if
	:: into < floorLast -> into = floorLast
	:: else
	fi
#endif
}

inline drop() { floor = 0; floorLast = 0; number = 0; xid = 0; complete = 0 }

/* No query and no claim may skip an unsent payment. */
inline judge() {
	for (i : 0 .. CREATES - 1) {
		if
		:: status[i] == UNSENT && seq[i] < floor -> passedOver = true
		:: else
		fi
	}
	i = 0;
	assert(!passedOver);
#ifdef RISES
	assert(floor == 0);
#endif
}

/* The first unsent payment from the floor on, by number, except `but`. NONE if there is none. */
inline firstUnsent(which, but, skips) {
	which = NONE;
	for (i : 0 .. CREATES - 1) {
		if
		:: status[i] == UNSENT && seq[i] >= floor && i != but && !(skips && i == locked) &&
			(which == NONE || seq[i] < seq[which]) -> which = i
		:: else
		fi
	}
	i = 0
}

inline setStatus(which, to) {
	if
	:: which != NONE -> status[which] = to
	:: else
	fi
}

#ifdef LOCKED
#define SKIPS true
#else
#define SKIPS false
#endif

inline raise() {
	if
	:: marked < complete && marked > floor -> floor = marked
	:: marked >= complete && complete > floor -> floor = complete
	:: else
	fi
}

proctype Owner() {
	byte batches = 0, xmin, own, read, first, second = NONE, marked, rest;
	do
	:: batches == BATCHES -> break
	:: atomic { batches < BATCHES -> /* store.Session.HasUnsent: one statement, one moment. */
		readLast(read);
		if
#ifndef NO_ROW
		:: read < floorLast || (floor > 0 && version != kept) -> drop()
#else
		:: read < floorLast -> drop()
#endif
		:: else -> floorLast = read
		fi;
		judge() }
	:: atomic { batches < BATCHES -> /* store.Session.Claim: the snapshot of its first statement, */
		batches++; held = true; takeXmin(xmin) }
		atomic { takeId(own) } /* its id, */
		atomic { readLast(read); /* and the last value. floor.claimed */
#ifdef ID_BEFORE_READ
			if
			:: floorLast > 0 -> floorLast = read
			:: else
			fi;
#endif
			if
			:: generation != floorGeneration || read < floorLast -> drop(); floorGeneration = generation
			:: else
			fi;
			if
#ifdef NO_XMIN
			:: xid != 0 -> complete = number; xid = 0
#else
			:: xid != 0 && xmin > xid -> complete = number; xid = 0
#endif
			:: else
			fi;
			if
			:: xid == 0 && floorLast > complete -> number = floorLast; xid = own
			:: else
			fi;
			floorLast = read;
			judge() }
		atomic { /* store.Claim.ClaimPayments */
			firstUnsent(first, NONE, SKIPS);
			if
			:: first != NONE -> firstUnsent(second, first, SKIPS)
			:: second = NONE
			fi }
		atomic { /* store.Claim.MarkSent, in the transaction */
			marked = 0;
			if
			:: second != NONE -> marked = seq[second]
			:: second == NONE && first != NONE -> marked = seq[first]
			:: else
			fi;
			setStatus(first, SENT); setStatus(second, SENT);
#if defined(LOCKED) && !defined(PASSES_SKIPPED)
			firstUnsent(rest, NONE, false);
			if
			:: rest != NONE && seq[rest] < marked -> marked = seq[rest]
			:: else
			fi;
#endif
			/* store.Claim.Commit, which may fail. No other session sees the mark before.
			   floor.committed */
			if
			:: version++; kept = version; raise()
			:: setStatus(first, UNSENT); setStatus(second, UNSENT)
#ifdef BEFORE_COMMIT
				; raise()
#endif
			fi;
			running[own] = false; held = false; own = 0; xmin = 0; read = 0;
			first = 0; second = NONE; marked = 0; rest = 0 }
	od
}

/* store.Store.Create. After it has its number it may wait for a conflicting key. */
proctype Create(byte me) {
	byte id = 0;
#ifndef NO_GATE
	atomic { takeId(id) } /* create_gate_is_open */
#endif
end: /* It may wait forever, if the owner has ended. */
	atomic { last + 1 < limit -> last++; seq[me] = last }
#ifdef NO_GATE
	atomic { takeId(id) }
#endif
	atomic {
		if
		:: status[me] = UNSENT
		:: seq[me] = 0 /* It is rolled back. */
		fi;
		running[id] = false; id = 0 }
}

/* The row lock of another session, an operator, and a change by hand. */
proctype Others() {
	bool resent = false, setBack = false;
end:
	do
	:: false
#ifdef LOCKED
	:: atomic { locked == NONE -> locked = 0 }
	:: atomic { locked != NONE -> locked = NONE }
#endif
#ifdef RESEND
	:: atomic { !resent && !held -> resent = true; /* store.Claim.UnmarkFrom, Commit */
		for (i : 0 .. CREATES - 1) {
			if
			:: status[i] == SENT -> status[i] = UNSENT
			:: else
			fi
		}
		i = 0; version++;
#ifndef NO_GENERATION
		generation++
#endif
		}
#endif
#ifdef SET_BACK
	:: atomic { !setBack && last > 1 -> setBack = true; last = 0;
		if
		:: last < lastSeen -> limit = lastSeen
		:: else
		fi }
#endif
	od
}

init {
	atomic {
		for (i : 0 .. CREATES - 1) { run Create(i) }
		i = 0;
		run Owner(); run Others()
	}
}
