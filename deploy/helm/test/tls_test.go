package chart_test

import (
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
)

// secretsOf returns where a pod's first container has the files of which Secrets.
func secretsOf(t *testing.T, spec corev1.PodSpec) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, m := range spec.Containers[0].VolumeMounts {
		for _, v := range spec.Volumes {
			if v.Name == m.Name && v.Secret != nil {
				if !m.ReadOnly || m.SubPath != "" {
					t.Errorf("%s is not mounted so that it can be read and replaced only: %+v", m.Name, m)
				}
				found[m.MountPath] = v.Secret.SecretName
			}
		}
	}
	return found
}

// variables returns a container's variables for TLS.
func tlsVariables(c corev1.Container) map[string]string {
	found := map[string]string{}
	for _, e := range c.Env {
		if strings.Contains(e.Name, "_TLS_") || strings.HasPrefix(e.Name, "DRAINMARK_BACKEND_") {
			found[strings.TrimPrefix(e.Name, "DRAINMARK_")] = e.Value
		}
	}
	return found
}

func TestTLSOfEachRole(t *testing.T) {
	t.Parallel()
	const own, public = "tls: {secretName: certificates, clientAuth: require}\n", "tls: {secretName: certificates, clientAuth: require, frontend: {secretName: public}}\n"
	const dir = "/etc/drainmark/tls"
	for _, c := range []struct {
		values, role string
		secrets      map[string]string
		client       string // what is required of clients
	}{
		{external + own, "backend", map[string]string{dir: "certificates"}, "require"},
		{external + own, "consumer", map[string]string{dir: "certificates"}, "require"},
		{external + own, "frontend", map[string]string{dir: "certificates", "/etc/drainmark/backend-tls": "certificates"}, ""},
		{external + public, "frontend", map[string]string{dir: "public", "/etc/drainmark/backend-tls": "certificates"}, ""},
		{"mode: up\naccess: {insecure: true}\n" + own, "up", map[string]string{dir: "certificates"}, "require"},
		{external, "backend", map[string]string{}, ""},
	} {
		pods := podsOfRole(t, c.values, c.role)
		if len(pods) != 1 {
			t.Fatalf("there are %d pods of %s", len(pods), c.role)
		}
		container := pods[0].spec.Containers[0]
		for dir, secret := range c.secrets {
			if got := secretsOf(t, pods[0].spec)[dir]; got != secret {
				t.Errorf("%s: %s has the Secret %q, not %q", c.role, dir, got, secret)
			}
		}
		want, scheme := map[string]string{}, corev1.URIScheme("")
		if len(c.secrets) > 0 {
			want, scheme = map[string]string{"TLS_CERT": dir + "/tls.crt", "TLS_KEY": dir + "/tls.key"}, corev1.URISchemeHTTPS
		}
		if c.client != "" {
			want["TLS_CLIENT_CA"], want["TLS_CLIENT_AUTH"] = dir+"/ca.crt", c.client
		}
		if c.role == "frontend" {
			for name, file := range map[string]string{"CA": "ca.crt", "CERT": "tls.crt", "KEY": "tls.key"} {
				want["BACKEND_"+name] = "/etc/drainmark/backend-tls/" + file
			}
			if !slices.ContainsFunc(container.Args, func(a string) bool { return strings.HasPrefix(a, "--backend=dns+https://") }) {
				t.Errorf("the frontends ask %v", container.Args)
			}
		}
		got := tlsVariables(container)
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%s: %s is %q, not %q", c.role, name, got[name], want[name])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s has %v", c.role, got)
		}
		for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
			if probe.HTTPGet.Scheme != scheme {
				t.Errorf("%s: a probe has the scheme %q", c.role, probe.HTTPGet.Scheme)
			}
		}
	}
}

// Whoever asks a pod asks over TLS: Prometheus, KEDA, and the test.
func TestOthersAskOverTLS(t *testing.T) {
	t.Parallel()
	values := external + "tls: {secretName: certificates}\nserviceMonitor: {enabled: true}\nkeda: {enabled: true}\n"
	seen := 0
	for _, o := range (release{values: values}).objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		switch typed := typed.(type) {
		case *monitoring.ServiceMonitor:
			seen++
			e := typed.Spec.Endpoints[0]
			if e.TLSConfig == nil || e.TLSConfig.CA.Secret == nil || e.TLSConfig.CA.Secret.Name != "certificates" || *e.TLSConfig.ServerName != "guestbook-drainmark-backend-headless" {
				t.Errorf("metrics are read with %+v", e)
			}
		case *scaledObject:
			seen++
			trigger := typed.Spec.Triggers[0]
			if !strings.HasPrefix(trigger.Metadata["url"], "https://") || trigger.Metadata["authMode"] != "tls" || trigger.AuthenticationRef.Name != "guestbook-drainmark-consumer" {
				t.Errorf("KEDA asks with %+v", trigger)
			}
		case *triggerAuthentication:
			seen++
			if len(typed.Spec.SecretTargetRef) != 3 || typed.Name != "guestbook-drainmark-consumer" {
				t.Errorf("KEDA has %+v", typed)
			}
		case *corev1.Pod:
			seen++
			if args := strings.Join(typed.Spec.Containers[0].Args, " "); !strings.Contains(args, "--url=https://") || !strings.Contains(args, "--ca=/etc/drainmark/tls/ca.crt") {
				t.Errorf("the test is %s", args)
			}
		}
	}
	if seen != 4 {
		t.Errorf("%d objects ask, not 4", seen)
	}
}
