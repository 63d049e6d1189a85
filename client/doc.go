// Package client talks to Drainmark over HTTP. It imports nothing else of the project.
//
//	c, err := client.New(client.Config{URL: "http://localhost:8080", Retry: client.DefaultRetry})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//
//	accepted, err := c.Append(ctx, "guestbook", client.Message{Body: []byte("hello"), ContentType: "text/plain"}, 0)
//
// Append answers as soon as the message is on the durable queue. Its receipt is a text that can be kept anywhere, and
// tells what became of the message: [Client.Status] asks once, [Client.Wait] until it is persisted or rejected. A wait
// as the last parameter of a call is how long the server shall wait before it answers. 0 is not at all.
//
// [Client.Messages] reads a page of a log, with receipts only from a state that has their writes, on whichever backend
// and replica. [Client.All] follows the pages, and [Client.Tail] the log itself, for as long as it is wanted.
// [Client.WaitBarrier] returns when everything is persisted that anybody had accepted before.
//
// # Trying again
//
// Without [Config.Retry], a call is one request. With it, a call that failed is made again where that does no harm:
// reading and asking always, appending because each append then has an idempotency key, and everything else only if it
// was certainly not done. The error of a failed call is an [Error], and [NothingDone] says whether the call certainly
// did nothing. Otherwise a failed append may be in the log, or get there later.
//
// # Bodies that only clients read
//
// With a [Config.Codec] bodies are encoded before they are sent, and decoded when they are read. The package aesgcm
// encrypts them. A body that cannot be decoded is a [DecodeError], and the messages behind it are read.
//
// docs/http-api.md describes what is behind each method.
package client
