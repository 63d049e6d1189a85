package effect

// Change is a change of a row that an effect has tried.
type Change struct {
	Table string `json:"table"`
	What  string `json:"what"` // insert, update or delete
	// Before and After are the row, by the names of its columns. One of them is nil if the row was not there.
	Before map[string]any `json:"before,omitempty"`
	After  map[string]any `json:"after,omitempty"`
}
