package broker

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/drainmark/drainmark"
)

// Registry is the record of the deployment that a broker's queues belong to. It lies in the broker, beside the queues,
// so that a process knows before it opens them how many partitions there are, even while no store has been made, and
// notices a store or a broker that is another one. Its methods may be called concurrently, and by several processes.
type Registry interface {
	// Enroll records e if the broker has no record, and returns what is recorded then: of several that enroll at the
	// same time one wins, and all get its answer. If the recorded deployment is e's and e is Stored, the record becomes
	// Stored, and stays so. The deployment that Enroll returns is as durable as a confirmed batch. After an error it
	// may be recorded or not. The same call again is always right. ErrMisconfigured if the broker does not let us, or
	// if the record is not one of this version's.
	Enroll(ctx context.Context, e Enrollment) (Enrollment, error)

	// Recorded returns the deployment that is recorded, and records nothing. ErrNotRecorded if there is none,
	// ErrMisconfigured as with Enroll.
	Recorded(ctx context.Context) (drainmark.Deployment, error)

	// Close frees everything. A second call does nothing.
	Close() error
}

// Enrollment is what a Registry records.
type Enrollment struct {
	drainmark.Deployment
	Stored bool // a store has been made for the deployment
}

// Check returns ErrMisconfigured unless the enrollment is one that can be recorded.
func (e Enrollment) Check() error {
	if e.Partitions < 1 || e.Partitions > drainmark.MaxPartitions || e.ID == (drainmark.DeploymentID{}) {
		return fmt.Errorf("%w: a deployment has an id and 1 to %d partitions, and not %d", ErrMisconfigured, drainmark.MaxPartitions, e.Partitions)
	}
	return nil
}

// enrollmentText is how an Enrollment is written down in a broker: for people too.
type enrollmentText struct {
	Deployment string `json:"deployment"`
	Partitions int    `json:"partitions"`
}

// Encode returns the enrollment's deployment as a text. The adapter must record that it is Stored.
func (e Enrollment) Encode() []byte {
	text, _ := json.Marshal(enrollmentText{hex.EncodeToString(e.ID[:]), e.Partitions}) // cannot fail
	return text
}

// DecodeEnrollment reads what Encode wrote. ErrMisconfigured for anything else.
func DecodeEnrollment(text []byte) (e Enrollment, err error) {
	var written enrollmentText
	if err = json.Unmarshal(text, &written); err == nil {
		var id []byte
		if id, err = hex.DecodeString(written.Deployment); err == nil && len(id) == len(e.ID) {
			copy(e.ID[:], id)
		}
		e.Partitions = written.Partitions
	}
	if err != nil || e.Check() != nil {
		return Enrollment{}, fmt.Errorf("%w: what is recorded as the deployment was not written by this version of Drainmark", ErrMisconfigured)
	}
	return e, nil
}
