package drainmark

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"time"
)

// MaxReceiptRuns is how many runs a receipt holds at most. MaxReceiptText is how long its text is at most, in bytes.
const (
	MaxReceiptRuns = 64
	MaxReceiptText = 6200
)

// DeploymentID names a deployment: 64 random bits, made when its store is created. It is in every receipt.
type DeploymentID [8]byte

// NewDeploymentID returns a fresh random id.
func NewDeploymentID() DeploymentID {
	var d DeploymentID
	rand.Read(d[:]) // never fails: crypto/rand stops the program instead
	return d
}

// Receipt says which marks a request was given. It is stateless: its text is all there is, and any backend of the
// deployment can read it.
type Receipt struct {
	Deployment DeploymentID
	IssuedAt   time.Time // in whole seconds
	Runs       []Run     // sorted, disjoint, at least one
	// Epochs is set on a barrier's receipt: per partition, the epoch that was in force before the fence was published.
	// See the barrier in the backend. Every partition named here has a run.
	Epochs map[int]uint64
	// Clocks has what Progress.Clock was, in whole seconds, when the receipt was issued, per partition, if that was
	// known. It tells how old the receipt is without any process' wall clock. Every partition named here has a run.
	Clocks map[int]time.Duration
}

// NewReceipt returns the receipt of the runs, which may come in any order. Neighbouring runs become one.
func NewReceipt(d DeploymentID, issuedAt time.Time, runs ...Run) Receipt {
	return Receipt{Deployment: d, IssuedAt: issuedAt.Truncate(time.Second), Runs: joinRuns(runs)}
}

// Merge returns one receipt for the writes of both. Above MaxReceiptRuns it joins the runs of each producer over what
// lies between them, which only makes it stricter. It fails when even that is too many (KindTooLarge), or when the
// receipts are of two deployments (KindInvalidReceipt).
func (r Receipt) Merge(other Receipt) (Receipt, error) {
	if r.Deployment != other.Deployment {
		return Receipt{}, Errorf(KindInvalidReceipt, "the receipts are from two deployments")
	}
	merged := Receipt{Deployment: r.Deployment, IssuedAt: r.IssuedAt, Runs: joinRuns(slices.Concat(r.Runs, other.Runs))}
	if other.IssuedAt.Before(r.IssuedAt) {
		merged.IssuedAt = other.IssuedAt
	}
	if len(merged.Runs) > MaxReceiptRuns {
		merged.Runs = spanRuns(merged.Runs)
	}
	if len(merged.Runs) > MaxReceiptRuns {
		return Receipt{}, Errorf(KindTooLarge, "the receipts together have %d runs of marks; a receipt has at most %d", len(merged.Runs), MaxReceiptRuns)
	}
	for _, epochs := range []map[int]uint64{r.Epochs, other.Epochs} {
		for partition, epoch := range epochs {
			if merged.Epochs == nil {
				merged.Epochs = map[int]uint64{}
			}
			if before, ok := merged.Epochs[partition]; ok && before != epoch {
				epoch = 0 // no epoch is 0: the next backend asked has to send a new fence
			}
			merged.Epochs[partition] = epoch
		}
	}
	merged.Clocks = mergeClocks(r, other)
	return merged, nil
}

// mergeClocks keeps the later of two clocks of a partition, and none where one of the receipts does not know it: a receipt
// is as young as its youngest part.
func mergeClocks(a, b Receipt) map[int]time.Duration {
	var merged map[int]time.Duration
	for _, r := range []Receipt{a, b} {
		for partition, clock := range r.Clocks {
			if !a.dates(partition) || !b.dates(partition) {
				continue
			}
			if merged == nil {
				merged = map[int]time.Duration{}
			}
			merged[partition] = max(merged[partition], clock)
		}
	}
	return merged
}

// dates says whether the receipt knows how old its marks of a partition are, if it has any.
func (r Receipt) dates(partition int) bool {
	_, known := r.Clocks[partition]
	return known || !r.names(partition)
}

func (r Receipt) names(partition int) bool {
	return slices.ContainsFunc(r.Runs, func(run Run) bool { return run.Partition == partition })
}

// compareRuns orders by partition, producer and first sequence.
func compareRuns(a, b Run) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), slices.Compare(a.Producer[:], b.Producer[:]), cmp.Compare(a.First, b.First))
}

// joinRuns sorts the runs and joins those that touch or overlap.
func joinRuns(runs []Run) []Run {
	return foldRuns(runs, func(last, next Run) bool { return next.First <= last.Last+1 })
}

// spanRuns joins all runs of each producer in a partition.
func spanRuns(runs []Run) []Run {
	return foldRuns(runs, func(Run, Run) bool { return true })
}

func foldRuns(runs []Run, join func(last, next Run) bool) []Run {
	sorted := slices.SortedFunc(slices.Values(runs), compareRuns)
	var out []Run
	for _, r := range sorted {
		if n := len(out) - 1; n >= 0 && out[n].Partition == r.Partition && out[n].Producer == r.Producer && join(out[n], r) {
			out[n].Last = max(out[n].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// The text of a receipt is the unpadded URL-safe base64 of
//
//	version (1 byte), deployment (8 bytes), issued at (Unix seconds, uvarint), number of runs (uvarint)
//	per run: partition (uvarint), flags (1 byte), producer (16 bytes, unless sameProducer), first (uvarint), last-first (uvarint)
//	number of epochs (uvarint), per epoch: partition (uvarint), epoch (8 bytes)
//	number of clocks (uvarint), per clock: partition (uvarint), seconds (uvarint)
//	CRC-32C of all before (4 bytes)
const (
	receiptVersion = 2
	maxSeconds     = 1 << 40 // since 1970, or of a partition's clock
	sameProducer   = 1       // flag: the producer is that of the run before
)

func (r Receipt) String() string {
	b := []byte{receiptVersion}
	b = append(b, r.Deployment[:]...)
	b = binary.AppendUvarint(b, uint64(max(0, r.IssuedAt.Unix())))
	b = binary.AppendUvarint(b, uint64(len(r.Runs)))
	for i, run := range r.Runs {
		b = binary.AppendUvarint(b, uint64(run.Partition))
		if i > 0 && r.Runs[i-1].Producer == run.Producer {
			b = append(b, sameProducer)
		} else {
			b = append(append(b, 0), run.Producer[:]...)
		}
		b = binary.AppendUvarint(b, run.First)
		b = binary.AppendUvarint(b, run.Last-run.First)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Epochs)))
	for _, partition := range sortedKeys(r.Epochs) {
		b = binary.AppendUvarint(b, uint64(partition))
		b = binary.LittleEndian.AppendUint64(b, r.Epochs[partition])
	}
	b = binary.AppendUvarint(b, uint64(len(r.Clocks)))
	for _, partition := range sortedKeys(r.Clocks) {
		b = binary.AppendUvarint(b, uint64(partition))
		b = binary.AppendUvarint(b, uint64(r.Clocks[partition]/time.Second))
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return base64.RawURLEncoding.EncodeToString(b)
}

func sortedKeys[V any](m map[int]V) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// ParseReceipt reads a receipt's text. A text that String would not write exactly so gives an error of
// KindInvalidReceipt. It does not check that the receipt is this deployment's: see Check.
func ParseReceipt(s string) (Receipt, error) {
	malformed := Errorf(KindInvalidReceipt, "malformed receipt of %d characters", len(s))
	if len(s) > MaxReceiptText {
		return Receipt{}, Errorf(KindInvalidReceipt, "receipt of %d characters: it has at most %d", len(s), MaxReceiptText)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(data) < 1+8+crc32.Size {
		return Receipt{}, malformed
	}
	body, sum := data[:len(data)-crc32.Size], binary.LittleEndian.Uint32(data[len(data)-crc32.Size:])
	if crc32.Checksum(body, castagnoli) != sum || body[0] != receiptVersion {
		return Receipt{}, malformed
	}
	r := Receipt{Deployment: DeploymentID(body[1:9])}
	d := decoder{rest: body[9:]}
	r.IssuedAt = time.Unix(int64(d.uvarint(maxSeconds)), 0).UTC()
	r.Runs = make([]Run, d.uvarint(MaxReceiptRuns))
	for i := range r.Runs {
		d.run(r.Runs, i)
	}
	d.epochs(&r)
	d.clocks(&r)
	if d.bad || len(d.rest) != 0 || len(r.Runs) == 0 || !slices.Equal(r.Runs, joinRuns(r.Runs)) {
		return Receipt{}, malformed
	}
	// One receipt has one text: no longer integers than needed, no other order, no line breaks.
	if r.String() != s {
		return Receipt{}, malformed
	}
	return r, nil
}

func (d *decoder) epochs(r *Receipt) {
	for n := d.uvarint(MaxReceiptRuns); n > 0 && !d.bad; n-- {
		partition := int(d.uvarint(math.MaxInt32))
		epoch := d.take(8)
		// Check then covers the epochs' partitions too, and Merge cannot gather more of them than runs.
		d.bad = d.bad || !r.names(partition)
		if d.bad {
			return
		}
		if r.Epochs == nil {
			r.Epochs = map[int]uint64{}
		}
		r.Epochs[partition] = binary.LittleEndian.Uint64(epoch)
	}
}

func (d *decoder) clocks(r *Receipt) {
	for n := d.uvarint(MaxReceiptRuns); n > 0 && !d.bad; n-- {
		partition, seconds := int(d.uvarint(math.MaxInt32)), d.uvarint(maxSeconds)
		if d.bad = d.bad || seconds > math.MaxInt64/uint64(time.Second) || !r.names(partition); d.bad {
			return
		}
		if r.Clocks == nil {
			r.Clocks = map[int]time.Duration{}
		}
		r.Clocks[partition] = time.Duration(seconds) * time.Second
	}
}

func (d *decoder) run(runs []Run, i int) {
	run := Run{Partition: int(d.uvarint(math.MaxInt32))}
	flags := d.take(1)
	switch {
	case d.bad:
		return
	case flags[0] == 0:
		copy(run.Producer[:], d.take(uint64(len(run.Producer))))
	case flags[0] == sameProducer && i > 0:
		run.Producer = runs[i-1].Producer
	default:
		d.bad = true
	}
	run.First = d.uvarint(math.MaxInt64)
	run.Last = run.First + d.uvarint(math.MaxInt64-run.First)
	d.bad = d.bad || run.First == 0
	runs[i] = run
}

// Check says whether the receipt belongs to a deployment with so many partitions.
func (r Receipt) Check(d DeploymentID, partitions int) error {
	if r.Deployment != d {
		return Errorf(KindInvalidReceipt, "the receipt is from another deployment")
	}
	for _, run := range r.Runs {
		if run.Partition >= partitions {
			return Errorf(KindInvalidReceipt, "the receipt names partition %d; this deployment has 0 to %d", run.Partition, partitions-1)
		}
	}
	return nil
}
