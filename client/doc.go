// Package client is a client of Paylatch's HTTP API. It creates payments, reads their status, and
// waits until they are in Kafka.
//
// # Creating a payment
//
// Every create carries an idempotency key. Make the key with [NewKey] and store it before the call.
// [Client.Create] then makes at most one payment, however often it has to send the request: each
// attempt carries the same key and the same body. After any error, and after a restart of your
// process, call it again with the same key and the same content.
//
// # Errors
//
// Three kinds of errors end a create. From them you know whether there is a payment:
//
//   - [ProblemError]: the service refused the request. There is no payment.
//   - [NotSentError]: no server was reached. There is no payment.
//   - [UnknownError]: the request may have arrived, but no response came back. There may be a
//     payment. Call [Client.Create] again, or look the key up with [Client.FindByKey].
//
// Use [errors.As] to distinguish them, and UnknownError first: it may wrap a ProblemError. Any
// other error means that an argument is invalid, and that nothing was sent.
//
// # Retries
//
// A call is retried until it succeeds, is refused, or [Config.RetryFor] is over. Each retry goes to
// the next server of [Config.Servers]. Status 408, 429, 502, 503 and 504, time-outs and network
// errors are retried; Retry-After is honoured. [WithObserver] reports every attempt.
//
// # Testing
//
// Package clienttest has an HTTP server that keeps payments in memory and fails on request.
package client
