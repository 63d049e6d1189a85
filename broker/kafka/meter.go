package kafka

import (
	"sort"
	"sync"
)

// meter estimates how many bytes stand between two offsets of a partition. Kafka does not say that: only how large the
// partition's files are, which it deletes whole, and minutes after what is in them was deleted. So the meter looks at
// the size now and then, takes what it has grown by for the bytes of the batches that have come since, and remembers
// that for each look. Between two looks it adds what this process publishes. Its methods may be called concurrently.
type meter struct {
	mu     sync.Mutex
	points []point // rising, the first one is where the partition begins
	added  int64   // bytes that this process has published since the last point
	size   int64   // of the files when the last point was made, -1 if Kafka did not say it

	bytes, batches int64 // that this process has seen: they tell the mean where Kafka says nothing
}

// point says how many bytes stand before an offset, from some place on.
type point struct {
	offset int64
	bytes  int64
}

// maxPoints is how many are kept: more than anybody needs between two offsets that matter.
const maxPoints = 128

// add counts a batch that has been published.
func (m *meter) add(bytes int) {
	m.saw(bytes)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.added += int64(bytes)
}

// saw counts a batch for the mean.
func (m *meter) saw(bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes, m.batches = m.bytes+int64(bytes), m.batches+1
	if m.batches > 1<<16 { // what is long ago counts less
		m.bytes, m.batches = m.bytes/2, m.batches/2
	}
}

// begin returns what measured wants to know: what was added before Kafka was asked.
func (m *meter) begin() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.added
}

// measured takes where the partition begins and ends, and how large its files were after that, or -1. What has come in
// between is in the size, and what this process has published of it may also be in what it adds: until the next look that
// counts twice.
func (m *meter) measured(start, end, size, added int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.added -= added
	n := len(m.points)
	switch {
	case n == 0 || start < m.points[0].offset || end < m.points[n-1].offset: // the first look, or another topic
		m.points = []point{{start, 0}}
		if end > start {
			m.points = append(m.points, point{end, m.first(end-start, size)})
		}
		if m.size = size; end == 0 { // what the files have has come since
			m.size = 0
		}
	case end > m.points[n-1].offset:
		last := m.points[n-1]
		m.points = append(m.points, point{end, last.bytes + m.grown(end-last.offset, size)})
		m.size = size
	case m.size < 0 || size >= 0 && size < m.size: // it is known now, or a file has been deleted
		m.size = size
	}
	m.trim(start)
}

// grown returns by how much so many batches, and what has come with them, have made the partition grow.
func (m *meter) grown(batches, size int64) int64 {
	if size < 0 || m.size < 0 || size < m.size { // Kafka does not say it, or has deleted a file
		return batches * m.mean()
	}
	return size - m.size
}

// first returns how much so many batches take that nobody has watched come: all that the files have, at most.
func (m *meter) first(batches, size int64) int64 {
	if size < 0 {
		return batches * m.mean()
	}
	return size
}

func (m *meter) mean() int64 { return m.bytes / max(1, m.batches) }

// usual returns how large a batch is in the mean.
func (m *meter) usual() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.points); m.batches == 0 && n > 1 {
		return m.all() / (m.points[n-1].offset - m.points[0].offset)
	}
	return m.mean()
}

// purged notes that the partition begins at an offset.
func (m *meter) purged(start int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trim(start)
}

func (m *meter) trim(start int64) {
	if len(m.points) == 0 || start <= m.points[0].offset {
		return
	}
	begin := point{start, m.before(start)}
	i := sort.Search(len(m.points), func(i int) bool { return m.points[i].offset > start })
	m.points = append([]point{begin}, m.points[i:]...)
	for len(m.points) > maxPoints { // the oldest are far apart in the end
		m.points = append(m.points[:1], m.points[2:]...)
	}
}

// before returns how many bytes stand before an offset.
func (m *meter) before(offset int64) int64 {
	i := sort.Search(len(m.points), func(i int) bool { return m.points[i].offset >= offset })
	switch {
	case i == len(m.points):
		return m.points[i-1].bytes
	case i == 0 || m.points[i].offset == offset:
		return m.points[i].bytes
	}
	a, b := m.points[i-1], m.points[i]
	return a.bytes + (b.bytes-a.bytes)*(offset-a.offset)/(b.offset-a.offset)
}

// stored returns how many bytes the partition has.
func (m *meter) stored() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all()
}

func (m *meter) all() int64 {
	if len(m.points) == 0 {
		return m.added
	}
	return m.points[len(m.points)-1].bytes - m.points[0].bytes + m.added
}

// newest returns the offset from which on the partition has so many bytes at most.
func (m *meter) newest(bytes int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.points) == 0 {
		return 0
	}
	first, last := m.points[0], m.points[len(m.points)-1]
	past := m.all() - bytes // so many bytes are to go
	return first.offset + int64(sort.Search(int(last.offset-first.offset), func(i int) bool {
		return m.before(first.offset+int64(i))-first.bytes >= past
	}))
}
