// Package drainmark has the nouns that every part of Drainmark shares: logs and messages, records and batches, marks
// and receipts, and the progress of a store. It imports nothing else of the project, does no input or output, and its
// values are plain data.
//
// A message's way is: the backend gives an append its mark (partition, producer, sequence), packs the waiting records
// into a [Batch], and answers with a [Receipt]. The broker carries the batch. The consumer commits the records together
// with the new [Progress]. A reader shows the [Message]. A write is in the database exactly when the progress holds its
// mark. Nothing else is ever counted or guessed.
package drainmark
