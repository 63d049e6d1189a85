package chart_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const retentionRules = "retention: {retention: [{logs: orders.*, age: 720h}, {logs: '*', count: 1000, bytes: 10GiB}]}\n"

// Those who trim have the file of rules where the program is told to look for it, from the ConfigMap that the chart makes or
// an existing one, and nobody else.
func TestRetention(t *testing.T) {
	t.Parallel()
	const made, own = "guestbook-drainmark-retention", "retentionConfigMap: own\n"
	for values, want := range map[string]string{
		external: "", external + retentionRules: made, external + own: "own", inOne + retentionRules: made, inOne + own: "own",
	} {
		roles := map[string]string{"frontend": "", "backend": want, "consumer": ""}
		if strings.HasPrefix(values, inOne) {
			roles = map[string]string{"up": want}
		}
		for role, want := range roles {
			if name := retentionOf(t, values, role); name != want {
				t.Errorf("with %q %s has the rules of %q, and should have those of %q", values, role, name, want)
			}
		}
	}
}

// retentionOf returns the name of the ConfigMap that a role's pods have the rules from, "" if they have none.
func retentionOf(t *testing.T, values, role string) (name string) {
	t.Helper()
	spec, at := podsOfRole(t, values, role)[0].spec, ""
	for _, e := range spec.Containers[0].Env {
		if e.Name == "DRAINMARK_RETENTION" {
			at = e.Value
		}
	}
	for _, v := range spec.Volumes {
		if v.Name == "retention" {
			name = v.ConfigMap.Name
		}
	}
	mounted := slices.ContainsFunc(spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.Name == "retention" && m.ReadOnly && m.MountPath+"/retention.yaml" == at
	})
	if mounted != (name != "") || mounted != (at != "") {
		t.Errorf("%s: DRAINMARK_RETENTION is %q, the ConfigMap %q, and mounted: %v", role, at, name, mounted)
	}
	return name
}
