package memory

import (
	"cmp"
	"hash/maphash"
	"iter"
)

// tree is a sorted map that never changes: with and without return another one, which shares all but a few nodes with
// it. So a snapshot of the whole database is one pointer. It is a treap. The zero value is empty.
type tree[K cmp.Ordered, V any] struct {
	root *node[K, V]
}

type node[K cmp.Ordered, V any] struct {
	key         K
	value       V
	priority    uint64 // no child's is higher: random priorities keep the tree shallow
	left, right *node[K, V]
}

var seed = maphash.MakeSeed()

func (t tree[K, V]) get(key K) (V, bool) {
	n := t.root
	for n != nil {
		switch c := cmp.Compare(key, n.key); {
		case c == 0:
			return n.value, true
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	var none V
	return none, false
}

func (t tree[K, V]) with(key K, value V) tree[K, V] {
	return tree[K, V]{insert(t.root, key, value)}
}

func insert[K cmp.Ordered, V any](n *node[K, V], key K, value V) *node[K, V] {
	if n == nil {
		return &node[K, V]{key: key, value: value, priority: maphash.Comparable(seed, key)}
	}
	top := *n
	switch c := cmp.Compare(key, n.key); {
	case c == 0:
		top.value = value
	case c < 0:
		child := insert(n.left, key, value) // a fresh node, so it may be changed
		if child.priority > top.priority {
			top.left, child.right = child.right, &top
			return child
		}
		top.left = child
	default:
		child := insert(n.right, key, value)
		if child.priority > top.priority {
			top.right, child.left = child.left, &top
			return child
		}
		top.right = child
	}
	return &top
}

func (t tree[K, V]) without(key K) tree[K, V] {
	return tree[K, V]{remove(t.root, key)}
}

func remove[K cmp.Ordered, V any](n *node[K, V], key K) *node[K, V] {
	if n == nil {
		return nil
	}
	top := *n
	switch c := cmp.Compare(key, n.key); {
	case c == 0:
		return join(n.left, n.right)
	case c < 0:
		top.left = remove(n.left, key)
	default:
		top.right = remove(n.right, key)
	}
	return &top
}

// join makes one tree of two, all of whose left keys are smaller than all right ones.
func join[K cmp.Ordered, V any](left, right *node[K, V]) *node[K, V] {
	switch {
	case left == nil:
		return right
	case right == nil:
		return left
	case left.priority > right.priority:
		top := *left
		top.right = join(left.right, right)
		return &top
	default:
		top := *right
		top.left = join(left, right.left)
		return &top
	}
}

// all yields the entries in the order of their keys.
func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { walk(t.root, nil, yield) }
}

// behind yields the entries whose keys are greater than key, in order.
func (t tree[K, V]) behind(key K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { walk(t.root, &key, yield) }
}

func walk[K cmp.Ordered, V any](n *node[K, V], behind *K, yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	if behind != nil && n.key <= *behind {
		return walk(n.right, behind, yield)
	}
	return walk(n.left, behind, yield) && yield(n.key, n.value) && walk(n.right, nil, yield)
}
