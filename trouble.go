package drainmark

import (
	"encoding/json"
	"fmt"
	"time"
)

// Trouble is why a partition does not go on: an effect does not let a record pass. A commit that persists nothing else
// writes it down, so that readers can tell, and so that a consumer which takes over goes on counting.
type Trouble struct {
	Effect   string    `json:"effect"`        // its name
	Reason   string    `json:"reason"`        // for people; it may quote the record
	Log      string    `json:"log,omitempty"` // of the record, empty if it is not known
	Since    time.Time `json:"since"`         // by the consumer's clock
	Span     Span      `json:"-"`             // the record that does not pass, the zero Span if that is not known
	Attempts int       `json:"attempts,omitempty"`
	// Stopped says that so many records were set aside because the effect failed that no more are: the effect itself is
	// taken to be broken.
	Stopped bool `json:"stopped,omitempty"`
}

// Encode returns the text that a store keeps, which is empty for nil.
func (t *Trouble) Encode() string {
	if t == nil {
		return ""
	}
	kept := troubleText{Trouble: *t}
	if t.Span.First > 0 {
		kept.Span = t.Span.String()
	}
	text, err := json.Marshal(kept)
	if err != nil {
		panic(err) // strings, numbers and a time
	}
	return string(text)
}

// DecodeTrouble reads what Encode wrote.
func DecodeTrouble(text string) (*Trouble, error) {
	if text == "" {
		return nil, nil
	}
	var kept troubleText
	err := json.Unmarshal([]byte(text), &kept)
	if err == nil && kept.Span != "" {
		kept.Trouble.Span, err = ParseSpan(kept.Span)
	}
	if err != nil {
		return nil, fmt.Errorf("reading why a partition does not go on: %w", err)
	}
	return &kept.Trouble, nil
}

// troubleText is a Trouble as it is kept.
type troubleText struct {
	Trouble
	Span string `json:"span,omitempty"`
}
