// Package loadtest puts load on an installation and measures it, through package client only.
//
// [Run] makes payments and reads their status, at a rate or as fast as the responses come, and
// returns a [Report]. The report is printed as text, as JSON, and as an HTML page with plots. All
// three use these names:
//
//	create           POST /payments until its response
//	status           GET /payments/{id} until its response
//	end to end       from the POST until a read_committed consumer has the payment
//	planned          requests whose time had come, in an open load
//	dropped          planned, not sent: as many requests as allowed were in flight
//	skipped          planned status requests, not sent: there was no payment yet
//	done             requests that succeeded, after retries if needed
//	failed           requests that did not, after retries
//	unknown          creates that may or may not have made a payment
//	missing          payments that no consumer had when the wait after the load was over
//	untracked        payments that were not waited for: too many others were
//	responses        outcomes of all attempts: statuses, and how they failed
//	first responses  outcomes of first attempts
//	retries          attempts after the first one
//	replays          creates whose payment an earlier attempt had made
//	send delay       how late the load generator sent a request; part of the latency
//	lost             requests that an objective counts as slower than any limit: those
//	                 failed, unknown and dropped; end to end, those missing and untracked
package loadtest
