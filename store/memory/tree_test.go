package memory

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTreeIsASortedMapThatNeverChanges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			tree tree[int, int]
			want map[int]int
		}
		versions := []version{{want: map[int]int{}}}
		key := rapid.IntRange(0, 40)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			next := versions[rapid.IntRange(0, len(versions)-1).Draw(t, "from")]
			next.want = maps.Clone(next.want)
			k, v := key.Draw(t, "key"), rapid.Int().Draw(t, "value")
			if rapid.Bool().Draw(t, "add") {
				next.tree = next.tree.with(k, v)
				next.want[k] = v
			} else {
				next.tree = next.tree.without(k)
				delete(next.want, k)
			}
			versions = append(versions, next)
		}
		for _, v := range versions {
			if got := maps.Collect(v.tree.all()); !maps.Equal(got, v.want) {
				t.Fatalf("got %v, want %v", got, v.want)
			}
			behind := key.Draw(t, "behind")
			var got []int
			for k := range v.tree.behind(behind) {
				got = append(got, k)
			}
			want := slices.Sorted(maps.Keys(v.want))
			want = slices.DeleteFunc(want, func(k int) bool { return k <= behind })
			if !slices.Equal(got, want) {
				t.Fatalf("behind %d: got %v, want %v", behind, got, want)
			}
			found, ok := v.tree.get(behind)
			if wanted, there := v.want[behind]; found != wanted || ok != there {
				t.Fatalf("key %d: got %d, %v, want %d, %v", behind, found, ok, wanted, there)
			}
		}
	})
}
