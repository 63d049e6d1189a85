package chart_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// effectsFile returns the file of effects that a release has in a ConfigMap of its own, and the name of that.
func effectsFile(t *testing.T, values string) (name, text string) {
	t.Helper()
	for _, o := range (release{values: values}).objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := typed.(*corev1.ConfigMap); ok && c.Data["effects.yaml"] != "" {
			name, text = c.Name, c.Data["effects.yaml"]
		}
	}
	return name, text
}

// whereEffects returns what the pods of a role know of effects: the ConfigMap's name if the file is where the program is
// told to look for it, "" if there is nothing of effects. And the checksum.
func whereEffects(t *testing.T, values, role string) (name, sum string) {
	t.Helper()
	pods := podsOfRole(t, values, role)
	if len(pods) != 1 {
		t.Fatalf("there are %d kinds of pods of %s", len(pods), role)
	}
	spec, at, folder := pods[0].spec, "", ""
	for _, e := range spec.Containers[0].Env {
		if e.Name == "DRAINMARK_EFFECTS" {
			at = e.Value
		}
	}
	for _, v := range spec.Volumes {
		if c := v.ConfigMap; c != nil {
			name, folder = c.Name, c.Items[0].Path
		}
	}
	mounted := slices.ContainsFunc(spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.Name == "effects" && m.ReadOnly && m.MountPath+"/"+folder == at
	})
	if mounted != (name != "") || mounted != (at != "") {
		t.Errorf("%s: DRAINMARK_EFFECTS is %q, the ConfigMap %q, and mounted: %v", role, at, name, mounted)
	}
	return name, pods[0].meta.Annotations["checksum/effects"]
}

// Those who drain have the file of effects, from the ConfigMap that the chart makes or an existing one, and nobody else.
func TestEffects(t *testing.T) {
	t.Parallel()
	const made, own = "guestbook-drainmark-effects", "effectsConfigMap: own"
	for values, want := range map[string]string{
		external:                      "",
		external + effects["effects"]: made,
		external + own:                "own",
		inOne:                         "",
		inOne + effects["effects"]:    made,
		inOne + own:                   "own",
		inOne + "up: {persistence: {enabled: false}}\n" + own: "own",
	} {
		roles := map[string]string{"frontend": "", "backend": "", "init": "", "consumer": want, "verify": ""}
		if strings.HasPrefix(values, inOne) {
			roles = map[string]string{"up": want, "verify": ""}
		}
		for role, want := range roles {
			name, sum := whereEffects(t, values, role)
			if name != want || (sum != "") != (want == made) {
				t.Errorf("with %q %s has the effects of %q, and should have those of %q; the checksum is %q", values, role, name, want, sum)
			}
		}
		if name, _ := effectsFile(t, values); (name == made) != (want == made) {
			t.Errorf("with %q there is the ConfigMap %q", values, name)
		}
	}
}

// The file is the text that was given, to the byte, or has the values that were given. Another one has another checksum.
func TestFileOfEffects(t *testing.T) {
	t.Parallel()
	const text = "# ours, {{ not a template }}\r\neffects:\n- logs: orders\n  sql: |\n    INSERT INTO orders\n\n    SELECT id\tFROM records\n"
	quoted, err := yaml.Marshal(map[string]string{"effects": text})
	if err != nil {
		t.Fatal(err)
	}
	if _, got := effectsFile(t, external+string(quoted)); got != text {
		t.Errorf("the file is %q, and should be %q", got, text)
	}
	const object = "effects:\n  setup: |\n    CREATE TABLE IF NOT EXISTS orders (id text);\n    SELECT 1;\n  effects:\n" +
		"  - {logs: orders.*, name: orders, sql: \"INSERT INTO orders\\nSELECT id FROM records\", keep: false, attempts: 3, timeout: 5s}\n"
	var want struct{ Effects map[string]any }
	var got map[string]any
	_, file := effectsFile(t, external+object)
	if err := yaml.Unmarshal([]byte(object), &want); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(file), &got); err != nil || !reflect.DeepEqual(got, want.Effects) {
		t.Errorf("the file is %v, and should have %v: %v", file, want.Effects, err)
	}
	sums := map[string]bool{}
	for _, values := range []string{string(quoted), object, strings.Replace(object, "attempts: 3", "attempts: 4", 1)} {
		_, consumer := whereEffects(t, external+values, "consumer")
		_, up := whereEffects(t, inOne+values, "up")
		if consumer != up {
			t.Errorf("consumers have the checksum %s, and up %s", consumer, up)
		}
		sums[consumer] = true
	}
	if len(sums) != 3 {
		t.Errorf("three files have the checksums %v", sums)
	}
}
