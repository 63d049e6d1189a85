package servers

import "testing"

func TestKafka(t *testing.T) {
	t.Parallel()
	k := StartKafka(t, KafkaOptions{})
	for _, again := range []func(){k.Kill, k.Stop} {
		again()
		if k.answers(t.Context()) == nil {
			t.Fatal("it answers although it was ended")
		}
		k.Start()
	}
	k.Pause()
	k.Continue()
	k.Await()
}
