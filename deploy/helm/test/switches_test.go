package chart_test

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// switches are what can be on or off in any release, each with values that turn it on.
var switches = map[string]string{
	"ingress":        "ingress: {enabled: true, className: nginx, hosts: ['{{ .Release.Name }}.example'], tls: [{hosts: [a.example], secretName: tls}]}",
	"httpRoute":      "httpRoute: {enabled: true, parentRefs: [{name: web}], hostnames: [a.example]}",
	"networkPolicy":  "networkPolicy: {enabled: true}",
	"peers":          "networkPolicy: {clients: [{podSelector: {}}], metrics: [{podSelector: {}}], servers: [{podSelector: {}}], backendClients: [{podSelector: {}}]}",
	"serviceMonitor": "serviceMonitor: {enabled: true, labels: {team: shop}}",
	"prometheusRule": "prometheusRule: {enabled: true, alertLabels: {team: shop}, disabled: [DrainmarkDown]}",
	"tls":            "tls: {secretName: certificates, clientAuth: require, frontend: {secretName: public, clientAuth: request}}",
	"dashboard":      "dashboard: {enabled: true, annotations: {folder: shop}}",
	"noTests":        "tests: {enabled: false}",
	"noAccount":      "serviceAccount: {create: false, name: existing}",
	"labels":         "commonLabels: {team: shop}\npodLabels: {tier: data}\npodAnnotations: {a: b}",
	"override":       "fullnameOverride: box",
	"access":         principals,
	"testToken":      "tests: {token: {secretName: verify}}",
	"digest":         "image: {digest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}",
	"placement": "nodeSelector: {disk: fast}\ntolerations: [{key: dedicated, operator: Exists}]\npriorityClassName: high\n" +
		"affinity: {podAntiAffinity: {}}\nimagePullSecrets: [{name: registry}]",
	"otel": "otel: {OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', OTEL_TRACES_SAMPLER_ARG: 0.01, OTEL_RESOURCE_ATTRIBUTES: team=shop}",
	"extra": "extraEnv: [{name: SSL_CERT_DIR, value: /certificates}]\nextraEnvFrom: [{secretRef: {name: more}}]\n" +
		"extraVolumes: [{name: ca, secret: {secretName: ca}}]\nextraVolumeMounts: [{name: ca, mountPath: /certificates}]\n" +
		"extraManifests: [{apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ .Release.Name }}-more'}}, \"apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: text}\"]",
	"settings": "settings: {partitions: 8, log-level: warn, profiles: 'on'}\nbackend: {settings: {allowed-origin: ['https://a.example', 'https://b.example']}}",
}

// switchesOfRoles are further ones of mode roles, and those of mode up.
var (
	switchesOfRoles = map[string]string{
		"keda":         "keda: {enabled: true}",
		"kedaToken":    "keda: {token: {secretName: keda}}",
		"autoscaling":  "frontend: {autoscaling: {enabled: true}}\nbackend: {autoscaling: {enabled: true}}",
		"noFrontend":   "frontend: {replicas: 0}",
		"noConsumer":   "consumer: {replicas: 0}",
		"noInit":       "init: {enabled: false}",
		"noBudgets":    "frontend: {podDisruptionBudget: {enabled: false}}\nbackend: {podDisruptionBudget: {enabled: false}}\nconsumer: {podDisruptionBudget: {enabled: false}}",
		"ownResources": "backend: {resources: {limits: {memory: 1.5Gi, cpu: '2'}}}\nconsumer: {resources: null}",
		"spread":       "backend: {topologySpreadConstraints: []}",
		"grace":        "frontend: {terminationGracePeriodSeconds: 20}\nbackend: {settings: {shutdown-delay: 1m30s}}",
	}
	// effects are for a store that can apply them: any but Redis.
	effects = map[string]string{
		"effects": "effects: {setup: CREATE TABLE IF NOT EXISTS orders (id text), effects: [{logs: orders, sql: INSERT INTO orders SELECT id FROM records}]}",
	}
	switchesOfUp = map[string]string{
		"noVolume": "up: {persistence: {enabled: false}}",
		"class":    "up: {persistence: {storageClassName: fast, size: 100Gi, whenDeleted: Delete}}",
	}
	// servers are the ways in which a release of mode roles gets its broker and store.
	servers = map[string]string{
		"external":        external,
		"users":           everybody + "broker: {backend: {secretName: b, secretKey: url}, consumer: {secretName: c}}\nstore: {secretName: urls, replica: {secretName: replicas}}",
		"trial":           trial,
		"trialNATS":       everybody + "trial: {nats: {enabled: true}, redis: {enabled: true}, persistence: {enabled: false}}",
		"trialBrokerOnly": everybody + "trial: {nats: {enabled: true}}\nstore: {secretName: urls}",
		"trialStoreOnly":  everybody + "trial: {redis: {enabled: true}}\nbroker: {secretName: urls}",
	}
)

// combinations are the values of all releases that are rendered, by what they are: each switch alone, and each two of
// them in all four ways, for each way of getting servers.
func combinations(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	add := func(name, base string, on map[string]string) {
		names := slices.Sorted(maps.Keys(on))
		all[name] = base
		for row := range pairRows {
			values := []string{base}
			for column, name := range names {
				if inPairs(row, column) {
					values = append(values, on[name])
				}
			}
			all[fmt.Sprintf("%s-%d", name, row)] = merged(t, values...)
		}
	}
	alone := func(name, base string, on map[string]string) {
		for other, values := range on {
			all[name+"+"+other] = merged(t, base, values)
		}
	}
	roles, up := maps.Clone(switches), maps.Clone(switches)
	maps.Copy(roles, switchesOfRoles)
	maps.Copy(up, switchesOfUp)
	maps.Copy(up, effects)
	for name, base := range servers {
		on := maps.Clone(roles)
		if !strings.Contains(base, "redis: {enabled: true}") {
			maps.Copy(on, effects)
		}
		add(name, base, on)
	}
	alone("external", external, roles)
	alone("external", external, effects)
	add("up", inOne, up)
	alone("up", inOne, up)
	return all
}

// pairRows is how many rows it takes so that each two of up to 35 switches are seen in all four ways.
const pairRows = 8

// inPairs says whether a switch is on in a row. The rows in which it is are a set of four of the eight, another for each
// switch, with the first row in all of them: so any two switches are both on in the first row, each is on somewhere
// without the other, and, as two such sets have seven rows at most, both are off somewhere.
func inPairs(row, column int) bool {
	set := 0
	for n := range 1 << pairRows {
		if n&1 == 1 && bits.OnesCount(uint(n)) == pairRows/2 {
			if set == column {
				return n>>row&1 == 1
			}
			set++
		}
	}
	panic("there are too many switches")
}

// The rows show each two switches in all four ways.
func TestPairs(t *testing.T) {
	t.Parallel()
	most := len(switches) + len(effects) + max(len(switchesOfRoles), len(switchesOfUp))
	for a := range most {
		for b := range a {
			ways := map[[2]bool]bool{}
			for row := range pairRows {
				ways[[2]bool{inPairs(row, a), inPairs(row, b)}] = true
			}
			if len(ways) != 4 {
				t.Errorf("switches %d and %d are seen in %d ways", a, b, len(ways))
			}
		}
	}
}

// merged merges values as Helm does.
func merged(t *testing.T, texts ...string) string {
	t.Helper()
	var all map[string]any
	for _, text := range texts {
		var v map[string]any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		all = merge(all, v)
	}
	text, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func merge(under, over map[string]any) map[string]any {
	all := maps.Clone(under)
	if all == nil {
		all = map[string]any{}
	}
	for key, value := range over {
		below, isMap := all[key].(map[string]any)
		if above, ok := value.(map[string]any); ok && isMap {
			value = merge(below, above)
		}
		all[key] = value
	}
	return all
}
