// Package seal signs the batches of a broker, so that whoever can write to the queue but has no key can neither forge one
// nor move one to another queue. A signed batch says itself which marks it has, so that nothing unsigned is believed.
//
// A signature does not keep anybody from publishing a signed batch once more. Its records are dropped by their marks then,
// as of any batch that comes twice.
package seal

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// The encoding of a signed batch. Integers are varints.
//
//	"DMS" 0x01                   4 bytes: what it is, and the version
//	key                          length and the bytes of its name
//	producer (16 bytes), first, last
//	HMAC-SHA-256                 32 bytes: of the context, and all besides itself
//	batch                        the rest, as drainmark.EncodeBatch writes it
//
// The context is "drainmark batch", the deployment's id and the partition, so that a batch is good in one queue alone.
const (
	magic   = "DMS\x01"
	purpose = "drainmark batch\x00"
	// Overhead bounds what a signature adds to a batch.
	Overhead = len(magic) + 1 + maxName + len(drainmark.ProducerID{}) + 2*binary.MaxVarintLen64 + sha256.Size
)

// The ways in which a message is not signed as it should be.
var (
	ErrUnsigned   = errors.New("it is not signed, and this consumer takes signed batches only")
	ErrUnknownKey = errors.New("it is signed with a key that this consumer does not have")
	ErrForged     = errors.New("its signature is not right: it is damaged, or forged, or of another queue or deployment")
)

// Sealer signs and checks the batches of a deployment. It may be used concurrently.
type Sealer struct {
	Keys       *Keys
	Deployment drainmark.DeploymentID
	// Unsigned has batches taken that are not signed. Those that are signed wrongly never are.
	Unsigned bool
	// Seen is told of each message that is checked: nil if its signature is right, or else what it lacks. ErrUnsigned also of
	// one that is taken all the same. nil for nobody.
	Seen func(error)
}

// Seal returns a signed batch, in memory of its own.
func (s *Sealer) Seal(h broker.Header, batch []byte) []byte {
	k := s.Keys.signing()
	sealed := make([]byte, 0, Overhead+len(batch))
	sealed = append(sealed, magic...)
	sealed = append(append(sealed, byte(len(k.name))), k.name...)
	sealed = append(sealed, h.Producer[:]...)
	sealed = binary.AppendUvarint(binary.AppendUvarint(sealed, h.First), h.Last)
	mac := s.mac(k, h.Partition)
	mac.Write(sealed)
	mac.Write(batch)
	return append(mac.Sum(sealed), batch...)
}

// mac begins the HMAC of a batch of the partition.
func (s *Sealer) mac(k key, partition int) hash.Hash {
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte(purpose))
	mac.Write(s.Deployment[:])
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(partition)))
	return mac
}

// Open checks a message of the partition, and returns the batch in it, which shares its memory, and its marks. One that
// is not signed and is taken all the same is returned as it is, without marks.
func (s *Sealer) Open(partition int, message []byte) (batch []byte, marks broker.Header, err error) {
	batch, marks, err = s.open(partition, message)
	if s.Seen != nil {
		s.Seen(err)
	}
	if err == ErrUnsigned && s.Unsigned {
		return message, broker.Header{}, nil
	}
	return batch, marks, err
}

func (s *Sealer) open(partition int, message []byte) ([]byte, broker.Header, error) {
	if len(message) < len(magic) || string(message[:len(magic)]) != magic {
		return nil, broker.Header{}, ErrUnsigned
	}
	head, sum, batch, name, h, ok := split(message)
	if !ok {
		return nil, broker.Header{}, ErrForged
	}
	k, ok := s.Keys.named(name)
	if !ok {
		return nil, broker.Header{}, ErrUnknownKey
	}
	mac := s.mac(k, partition)
	mac.Write(head)
	mac.Write(batch)
	if !hmac.Equal(mac.Sum(nil), sum) {
		return nil, broker.Header{}, ErrForged
	}
	h.Partition = partition
	return batch, h, nil
}

// split takes a message apart that begins as a signed one: what stands before the signature, the signature, and the batch.
func split(message []byte) (head, sum, batch []byte, name string, h broker.Header, ok bool) {
	at := len(magic)
	if len(message) <= at || len(message) < at+1+int(message[at])+len(h.Producer) {
		return nil, nil, nil, "", h, false
	}
	end := at + 1 + int(message[at])
	name = string(message[at+1 : end])
	at = end + copy(h.Producer[:], message[end:])
	for _, mark := range []*uint64{&h.First, &h.Last} {
		v, n := binary.Uvarint(message[at:])
		if n <= 0 || v > math.MaxInt64 {
			return nil, nil, nil, "", h, false
		}
		*mark, at = v, at+n
	}
	if len(message) < at+sha256.Size {
		return nil, nil, nil, "", h, false
	}
	return message[:at], message[at : at+sha256.Size], message[at+sha256.Size:], name, h, true
}

// Broker returns a broker whose batches are signed when they are published, and checked when they are received.
func (s *Sealer) Broker(b broker.Broker) broker.Broker { return &sealing{b, s} }

type sealing struct {
	broker.Broker
	sealer *Sealer
}

func (b *sealing) Traits() broker.Traits {
	traits := b.Broker.Traits()
	traits.MaxPayload = min(traits.MaxPayload, drainmark.MaxBatchBytes) - Overhead
	return traits
}

func (b *sealing) Publish(ctx context.Context, partition int, batch broker.Batch) error {
	batch.Payload = b.sealer.Seal(batch.Header, batch.Payload)
	return b.Broker.Publish(ctx, partition, batch)
}

func (b *sealing) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	r, err := b.Broker.Open(ctx, partition, from, again)
	if err != nil {
		return nil, err
	}
	return &opening{r, b.sealer, partition}, nil
}

type opening struct {
	broker.Receiver
	sealer    *Sealer
	partition int
}

// Receive leaves what is not signed as it should be as it came, and says why it is refused.
func (r *opening) Receive(ctx context.Context, most int) ([]broker.Delivery, error) {
	deliveries, err := r.Receiver.Receive(ctx, most)
	for i := range deliveries {
		d := &deliveries[i]
		if d.Lost != "" || len(d.Payload) > drainmark.MaxBatchBytes {
			continue // there is nothing to be checked, or it is set aside for its size
		}
		batch, marks, err := r.sealer.Open(r.partition, d.Payload)
		switch {
		case err != nil:
			d.Header, d.Refused = broker.Header{}, fmt.Sprintf("checking a message of %d bytes: %v", len(d.Payload), err)
		case marks.First > 0:
			d.Header, d.Payload, d.Came = marks, batch, d.Payload
		}
	}
	return deliveries, err
}
