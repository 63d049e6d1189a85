package chart_test

import (
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	klabels "k8s.io/apimachinery/pkg/labels"
)

// party is somebody in the cluster: a pod with labels in the release's namespace, or one in another namespace.
type party struct {
	labels    klabels.Set
	namespace klabels.Set // of another namespace; nil for the release's own
}

// network are the policies of a release.
type network []*networkingv1.NetworkPolicy

func selects(t *testing.T, by *metav1.LabelSelector, labels klabels.Set) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(by)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels)
}

// includes says whether peers have a party in them. No peers are everybody.
func includes(t *testing.T, peers []networkingv1.NetworkPolicyPeer, p party) bool {
	t.Helper()
	for _, peer := range peers {
		there := peer.NamespaceSelector
		if (there == nil) != (p.namespace == nil) || there != nil && !selects(t, there, p.namespace) {
			continue
		}
		if peer.PodSelector == nil || selects(t, peer.PodSelector, p.labels) {
			return true
		}
	}
	return len(peers) == 0
}

func hasPort(ports []networkingv1.NetworkPolicyPort, port int) bool {
	for _, p := range ports {
		if p.Port.IntValue() == port {
			return true
		}
	}
	return len(ports) == 0
}

// allows says whether one may send to another's port, by the rules of both: without a policy, everything may.
func (n network) allows(t *testing.T, from, to party, port int) bool {
	t.Helper()
	out, in := true, true
	var leaves, enters bool
	for _, policy := range n {
		if from.namespace == nil && selects(t, &policy.Spec.PodSelector, from.labels) {
			out = false
			for _, rule := range policy.Spec.Egress {
				leaves = leaves || hasPort(rule.Ports, port) && includes(t, rule.To, to)
			}
		}
		if to.namespace == nil && selects(t, &policy.Spec.PodSelector, to.labels) {
			in = false
			for _, rule := range policy.Spec.Ingress {
				enters = enters || hasPort(rule.Ports, port) && includes(t, rule.From, from)
			}
		}
	}
	return (out || leaves) && (in || enters)
}

func networkOf(t *testing.T, values string) (n network) {
	t.Helper()
	for _, o := range (release{values: values}).objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		if policy, ok := typed.(*networkingv1.NetworkPolicy); ok {
			n = append(n, policy)
		}
	}
	return n
}

// With NetworkPolicies each pod reaches what it has to, and nothing else.
func TestNetwork(t *testing.T) {
	t.Parallel()
	own := func(component string) party {
		name := map[string]string{"broker": "rabbitmq", "redis": "redis"}[component]
		if name == "" {
			name = "drainmark"
		}
		return party{labels: klabels.Set{
			"app.kubernetes.io/name": name, "app.kubernetes.io/instance": "guestbook", "app.kubernetes.io/component": component,
			"app.kubernetes.io/part-of": "drainmark",
		}}
	}
	foreign := func(component string) party { // of another release in the namespace
		p := own(component)
		p.labels["app.kubernetes.io/instance"] = "other"
		return p
	}
	elsewhere := func(app, namespace string) party {
		return party{klabels.Set{"app": app}, klabels.Set{"kubernetes.io/metadata.name": namespace}}
	}
	parties := map[string]party{
		"a stranger": {labels: klabels.Set{"app": "shop"}}, "a client": {labels: klabels.Set{"app": "web"}},
		"prometheus": elsewhere("prometheus", "monitoring"), "keda": elsewhere("keda", "keda"), "dns": elsewhere("dns", "kube-system"),
	}
	for _, component := range []string{"frontend", "backend", "consumer", "init", "verify", "broker", "redis", "up"} {
		parties[component], parties["another "+component] = own(component), foreign(component)
	}
	const on = "networkPolicy: {enabled: true, clients: [{podSelector: {matchLabels: {app: web}}}], " +
		"metrics: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}\n"
	const dns = ", frontend dns 53, backend dns 53, consumer dns 53, init dns 53, verify dns 53"
	for values, allowed := range map[string]string{
		trial + on + "keda: {enabled: true}": "a client frontend 8080, verify frontend 8080, frontend backend 8080, keda backend 8080, " +
			"backend broker 5672, backend redis 6379, consumer broker 5672, consumer redis 6379, init broker 5672, init redis 6379, " +
			"prometheus frontend 9090, prometheus backend 9090, prometheus consumer 9090" + dns,
		external + on + "frontend: {replicas: 0}": "a client backend 8080, verify backend 8080, " +
			"prometheus frontend 9090, prometheus backend 9090, prometheus consumer 9090" + dns,
		inOne + on: "a client up 8080, verify up 8080, prometheus up 9090, verify dns 53",
	} {
		n, want := networkOf(t, mergedLines(t, values)), map[string]bool{}
		for _, way := range strings.Split(allowed, ", ") {
			want[way] = true
		}
		covered := map[string]bool{}
		for name, p := range parties {
			for _, policy := range n {
				covered[name] = covered[name] || p.namespace == nil && selects(t, &policy.Spec.PodSelector, p.labels)
			}
		}
		for from, f := range parties {
			for to, p := range parties {
				for _, port := range []int{53, 5672, 6379, 8080, 9090} {
					way := from + " " + to + " " + map[int]string{53: "53", 5672: "5672", 6379: "6379", 8080: "8080", 9090: "9090"}[port]
					// Nobody has said where DNS and the servers are, so they may be anywhere.
					anywhere := port == 53 && to != "dns" || port == 5672 || port == 6379
					if !covered[to] && (!covered[from] || anywhere) {
						continue
					}
					if got := n.allows(t, f, p, port); got != want[way] && from != to {
						t.Errorf("with\n%sthe way %s is open: %v", values, way, got)
					}
				}
			}
		}
	}
}

// The servers of every kind that Drainmark knows are reached at their usual ports.
func TestServersAreReachedAtTheirPorts(t *testing.T) {
	t.Parallel()
	n := networkOf(t, external+"networkPolicy: {enabled: true}")
	server := party{namespace: klabels.Set{"kubernetes.io/metadata.name": "servers"}}
	for _, role := range []string{"backend", "consumer", "init"} {
		pod := party{labels: klabels.Set{
			"app.kubernetes.io/name": "drainmark", "app.kubernetes.io/instance": "guestbook", "app.kubernetes.io/component": role,
		}}
		for kind, port := range map[string]int{
			"RabbitMQ": 5672, "RabbitMQ with TLS": 5671, "NATS": 4222, "Redis": 6379, "a Sentinel": 26379, "PostgreSQL": 5432,
		} {
			if !n.allows(t, pod, server, port) {
				t.Errorf("%s does not reach %s", role, kind)
			}
		}
	}
}

// Issuers of tokens are reached by those alone that ask them, and only where somebody has said where they are.
func TestIssuersAreReached(t *testing.T) {
	t.Parallel()
	issuer := party{klabels.Set{"app": "keycloak"}, klabels.Set{"kubernetes.io/metadata.name": "identity"}}
	another := party{klabels.Set{"app": "keycloak"}, klabels.Set{"kubernetes.io/metadata.name": "elsewhere"}}
	const where = ", issuers: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: identity}}}]}"
	for start, asks := range map[string]map[string]bool{
		external: {"frontend": true, "backend": true, "consumer": false, "init": false},
		inOne:    {"up": true},
	} {
		without, with := networkOf(t, start+"networkPolicy: {enabled: true}"), networkOf(t, start+"networkPolicy: {enabled: true"+where)
		for role, want := range asks {
			pod := party{labels: klabels.Set{
				"app.kubernetes.io/name": "drainmark", "app.kubernetes.io/instance": "guestbook", "app.kubernetes.io/component": role,
			}}
			if with.allows(t, pod, issuer, 443) != want || with.allows(t, pod, another, 443) || without.allows(t, pod, issuer, 443) {
				t.Errorf("%s reaches other than those issuers that it should: %v", role, want)
			}
		}
	}
}

// The collector of traces and metrics is reached by the roles, and only where somebody has said where it is.
func TestTheCollectorIsReached(t *testing.T) {
	t.Parallel()
	collector := party{klabels.Set{"app": "collector"}, klabels.Set{"kubernetes.io/metadata.name": "observability"}}
	const where = ", collector: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: observability}}}]}"
	for start, sends := range map[string]map[string]bool{
		external: {"frontend": true, "backend": true, "consumer": true, "init": false},
		inOne:    {"up": true},
	} {
		without, with := networkOf(t, start+"networkPolicy: {enabled: true}"), networkOf(t, start+"networkPolicy: {enabled: true"+where)
		for role, want := range sends {
			pod := party{labels: klabels.Set{
				"app.kubernetes.io/name": "drainmark", "app.kubernetes.io/instance": "guestbook", "app.kubernetes.io/component": role,
			}}
			if with.allows(t, pod, collector, 4318) != want || without.allows(t, pod, collector, 4318) {
				t.Errorf("%s reaches the collector otherwise than it should: %v", role, want)
			}
		}
	}
}
