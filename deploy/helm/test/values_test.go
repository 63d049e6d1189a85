package chart_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	goyaml "go.yaml.in/yaml/v3"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what is derived anew: the golden files and the table of values")

// compare compares a text with a file, or writes it there.
func compare(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == text {
		return
	}
	was, is := strings.Split(string(want), "\n"), strings.Split(text, "\n")
	for i := range max(len(was), len(is)) {
		if i >= len(was) || i >= len(is) || was[i] != is[i] {
			t.Errorf("%s differs from line %d on; if that is wanted: go test . -update\nis:    %s\nshould: %s",
				path, i+1, line(is, i), line(was, i))
			return
		}
	}
}

func line(of []string, i int) string {
	if i < len(of) {
		return of[i]
	}
	return "(the end)"
}

// value is a row of the table.
type value struct{ path, initial, about string }

// valuesOf returns the documented values of a node of values.yaml, and complains about those that are not.
func valuesOf(t *testing.T, path string, node *goyaml.Node) (all []value) {
	t.Helper()
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, of := node.Content[i], node.Content[i+1]
		name := strings.TrimPrefix(path+"."+key.Value, ".")
		about := ""
		for text := range strings.Lines(key.HeadComment) {
			if after, ok := strings.CutPrefix(text, "# -- "); ok {
				about = strings.TrimSpace(after)
			}
		}
		switch {
		case about != "":
			initial, err := json.Marshal(decoded(t, of))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, value{name, string(initial), about})
		case of.Kind == goyaml.MappingNode && len(of.Content) > 0:
			all = append(all, valuesOf(t, name, of)...)
		default:
			t.Errorf("values.yaml says nothing about %s", name)
		}
	}
	return all
}

func decoded(t *testing.T, node *goyaml.Node) (v any) {
	t.Helper()
	if err := node.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func valuesFile(t *testing.T) *goyaml.Node {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file goyaml.Node
	if err := goyaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.Content[0]
}

// The README's table is what the comments of values.yaml say.
func TestTableOfValues(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- values -->\n", "<!-- /values -->\n"
	path := filepath.Join(chartDir, "README.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), begin)
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatal("the README has no table")
	}
	var table strings.Builder
	table.WriteString("\n| value | default | |\n| --- | --- | --- |\n")
	for _, v := range valuesOf(t, "", valuesFile(t)) {
		initial := v.initial
		if initial == "null" || initial == `""` {
			initial = ""
		} else {
			initial = "`" + initial + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", v.path, strings.ReplaceAll(initial, "|", `\|`), v.about)
	}
	compare(t, path, head+begin+table.String()+"\n"+end+tail)
}

// schemaNode is a node of the schema, as far as names of values are concerned.
type schemaNode struct {
	Ref                  string `json:"$ref"`
	Properties           map[string]schemaNode
	AdditionalProperties any
}

// optionalMembers are the values of which values.yaml has some members only.
var optionalMembers = regexp.MustCompile(`([sS]ettings|\.resources|\.timeouts|\.probes\.[a-z]+)$`)

// The schema has each value, and no other ones: a value that is misspelt is refused.
func TestSchemaHasEachValue(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var top struct {
		schemaNode
		Definitions map[string]schemaNode
	}
	if err := json.Unmarshal(text, &top); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, s schemaNode, node *goyaml.Node)
	walk = func(path string, s schemaNode, node *goyaml.Node) {
		if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
			s = top.Definitions[name]
		}
		if s.Properties == nil { // somebody else's, such as a toleration
			return
		}
		if s.AdditionalProperties != false {
			t.Errorf("%s takes any value", path)
		}
		has := map[string]bool{"global": true} // Helm's own
		for i := 0; i+1 < len(node.Content); i += 2 {
			name := node.Content[i].Value
			has[name] = true
			if _, ok := s.Properties[name]; !ok {
				t.Errorf("the schema has no %s.%s", path, name)
				continue
			}
			walk(path+"."+name, s.Properties[name], node.Content[i+1])
		}
		for name := range s.Properties {
			if !has[name] && !optionalMembers.MatchString(path) {
				t.Errorf("values.yaml has no %s.%s", path, name)
			}
		}
	}
	walk("", top.schemaNode, valuesFile(t))
}

// wrongValues are refused. The message says which they are and why.
var wrongValues = map[string]struct{ values, says string }{
	"a mode that there is not":        {external + "mode: all", `at '/mode': value must be one of 'roles', 'up'`},
	"a value that is misspelt":        {external + "frontend: {replica: 2}", `at '/frontend': additional properties 'replica' not allowed`},
	"a setting that is misspelt":      {external + "backend: {settings: {max-wiat: 60s}}", `at '/backend/settings': additional properties 'max-wiat' not allowed`},
	"a setting of another role":       {external + "consumer: {settings: {max-wait: 60s}}", `at '/consumer/settings': additional properties 'max-wait' not allowed`},
	"a time without a unit":           {external + "backend: {settings: {shutdown-delay: 10}}", `at '/backend/settings/shutdown-delay': got number, want string`},
	"a time with a wrong unit":        {external + "backend: {settings: {shutdown-delay: 10sec}}", `at '/backend/settings/shutdown-delay': '10sec' does not match pattern`},
	"a size with a wrong unit":        {external + "settings: {backlog-bytes: 10GX}", `at '/settings/backlog-bytes'`},
	"too many partitions":             {external + "settings: {partitions: 65}", `at '/settings/partitions': maximum: got 65, want 64`},
	"replicas as text":                {external + "backend: {replicas: '3'}", `at '/backend/replicas': got string, want integer`},
	"no backend":                      {external + "backend: {replicas: 0}", `at '/backend/replicas': minimum: got 0, want 1`},
	"a service type that is not one":  {external + "frontend: {service: {type: External}}", `at '/frontend/service/type': value must be one of`},
	"an URL in the values":            {external + "broker: {url: 'amqp://u:p@h'}", `at '/broker': additional properties 'url' not allowed`},
	"a variable without a name":       {external + "extraEnv: [{value: x}]", `at '/extraEnv/0': missing property 'name'`},
	"a digest without its kind":       {external + "image: {digest: aaaa}", `at '/image/digest': 'aaaa' does not match pattern`},
	"a label of the chart's":          {external + "podLabels: {app.kubernetes.io/component: x}", `invalid propertyName 'app.kubernetes.io/component'`},
	"a volume's size":                 {inOne + "up: {persistence: {size: big}}", `at '/up/persistence/size'`},
	"no broker":                       {everybody + "store: {secretName: s}", "broker.secretName must name a Secret that has the broker's URL"},
	"no store":                        {everybody + "broker: {secretName: s}", "store.secretName must name a Secret that has the URL of the store's master"},
	"two trial brokers":               {everybody + "trial: {rabbitmq: {enabled: true}, nats: {enabled: true}, redis: {enabled: true}}", "a deployment has one broker"},
	"a broker and a trial one":        {external + "trial: {nats: {enabled: true}}", "broker.secretName and a trial broker: a deployment has one broker"},
	"a store and a trial one":         {external + "trial: {redis: {enabled: true}}", "store.secretName and trial.redis.enabled: a deployment has one store"},
	"up with a trial server":          {inOne + "trial: {redis: {enabled: true}}", "mode up has its own broker and store"},
	"up with keda":                    {inOne + "keda: {enabled: true}", "keda.enabled scales the consumers of mode roles"},
	"a route without a gateway":       {external + "httpRoute: {enabled: true}", "httpRoute.parentRefs must name the Gateway"},
	"a memory limit in odd units":     {external + "backend: {resources: {limits: {memory: 1Zi}}}", `the unit of the quantity "1Zi" is none of`},
	"a name that no Service can have": {external + "fullnameOverride: 1a", `at '/fullnameOverride': '1a' does not match pattern`},
	"a tag that no image can have":    {external + "image: {tag: a/b}", `at '/image/tag': 'a/b' does not match pattern`},
	"a budget that allows nothing":    {external + "backend: {podDisruptionBudget: {maxUnavailable: 0%}}", `'0%' does not match pattern`},
	"a budget of more than all":       {external + "backend: {podDisruptionBudget: {maxUnavailable: 101%}}", `'101%' does not match pattern`},
	"a node port of a ClusterIP":      {external + "frontend: {service: {nodePort: 30080}}", "frontend.service.nodePort: a Service of type ClusterIP has none"},
	"ranges of a NodePort":            {external + "frontend: {service: {type: NodePort, loadBalancerSourceRanges: [10.0.0.0/8]}}", "are for Services of type LoadBalancer"},
	"replicas the wrong way round":    {external + "backend: {autoscaling: {enabled: true, minReplicas: 11}}", "backend.autoscaling: minReplicas is above maxReplicas"},
	"autoscaling without a request":   {external + "frontend: {autoscaling: {enabled: true}, resources: {requests: {cpu: null}}}", "frontend.resources.requests.cpu is not set"},
	"consumers the wrong way round":   {external + "keda: {enabled: true, minReplicas: 5}", "keda: minReplicas is above maxReplicas"},
	"effects of a misspelt kind":      {external + "effects: {effects: [{log: orders, sql: SELECT 1}]}", `at '/effects/effects/0': additional properties 'log' not allowed`},
	"no effects":                      {external + "effects: {effects: []}", `at '/effects/effects': minItems: got 0, want 1`},
	"a file's name for effects":       {external + "effects: effects.yaml", "effects must be the text of a file with a list of effects, as --set-file effects=FILE gives it"},
	"effects that are no YAML":        {external + `effects: "effects:\n  - logs: [a"`, "as --set-file effects=FILE gives it: error converting YAML to JSON: yaml: line"},
	"setup without effects":           {external + `effects: "setup: SELECT 1"`, "effects=FILE gives it: it has none"},
	"effects in two places":           {external + "effectsConfigMap: own\neffects: {effects: [{logs: a, sql: SELECT 1}]}", "effects and effectsConfigMap: the file of effects is one of the two"},
	"effects on Redis":                {everybody + "broker: {secretName: s}\ntrial: {redis: {enabled: true}}\neffectsConfigMap: own", "effects and trial.redis.enabled: a store of Redis applies none"},
	"rules of a misspelt kind":        {external + "retention: {retention: [{log: orders}]}", `at '/retention/retention/0': `},
	"a file's name for retention":     {external + "retention: retention.yaml", "retention must be the text of a file with a list of rules, as --set-file retention=FILE gives it"},
	"rules in two places":             {external + "retentionConfigMap: own\nretention: {retention: [{logs: a}]}", "retention and retentionConfigMap: the file of rules is one of the two"},
	"a ConfigMap that is none":        {external + "effectsConfigMap: own/effects.yaml", "at '/effectsConfigMap': value must be 'a name as Kubernetes has them"},
	"an alert that there is not":      {external + "prometheusRule: {disabled: [DrainmarkDown, Nonsense]}", "prometheusRule.disabled: there is no alert Nonsense: there are DrainmarkDown, "},
	"a volume of some bytes":          {inOne + "up: {persistence: {size: 20}}", "up.persistence.size: 20 is below 64Mi; without a unit it is bytes"},
	"a volume that is too small":      {inOne + "up: {persistence: {size: 63Mi}}", "up.persistence.size: 63Mi is below 64Mi"},
	"a trial server's volume":         {everybody + "trial: {nats: {enabled: true}, redis: {enabled: true}, persistence: {size: '4'}}", "trial.persistence.size: 4 is below 64Mi"},
	"memory of some bytes":            {external + "backend: {resources: {limits: {memory: 512}}}", "backend.resources.limits.memory: 512 is below 16Mi; without a unit it is bytes"},
	"a setting of some roles":         {external + "settings: {shutdown-delay: 20s}", "at '/settings/shutdown-delay': value must be 'set in frontend.settings, backend.settings or up.settings, not in settings'"},
	"a setting of one role":           {external + "settings: {pause-switch: 'off'}", "at '/settings/pause-switch': value must be 'set in up.settings, not in settings'"},
	"a name that is too long":         {external + "effectsConfigMap: " + strings.Repeat("a", 254), "at '/effectsConfigMap': maxLength: got 254, want 253"},
	"nobody says who may":             {"mode: up", "access: nobody has said who may do what: --set-file access.rules=FILE"},
	"two say who may":                 {external + "access: {existingSecret: own}", "access.existingSecret and access.insecure: who may do what is said in one place"},
	"two files say who may":           {"mode: up\naccess: {existingConfigMap: own, rules: {principals: [{name: shop}]}}", "access.rules and access.existingConfigMap: who may do what is said in one place"},
	"a file's name for rules":         {external + "access: {insecure: false, rules: access.yaml}", "access.rules must be the text of a file with principals, as --set-file access.rules=FILE gives it: error"},
	"rules without principals":        {external + "access: {insecure: false, rules: 'a: b'}", "access.rules=FILE gives it: it has none"},
	"a grant that is misspelt":        {external + "access: {rules: {principals: [{name: shop, grant: [admin]}]}}", `at '/access/rules/principals/0': additional properties 'grant' not allowed`},
	"keda that may not ask":           {external + "access: {insecure: false, rules: 'anonymous: []'}\nkeda: {enabled: true}", "keda.token.secretName must name a Secret with a token of a principal that may \"status\""},
	"a time that cannot be computed":  {external + "backend: {terminationGracePeriodSeconds: 0}", `at '/backend/terminationGracePeriodSeconds'`},
}

func TestWrongValuesAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range wrongValues {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := release{values: mergedLines(t, test.values)}.render(t)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("it says %v; it should say %s", err, test.says)
			}
		})
	}
}

// mergedLines merges values whose lines are values of their own, so that they may name a thing twice.
func mergedLines(t *testing.T, values string) string {
	t.Helper()
	return merged(t, strings.Split(values, "\n")...)
}

// A URL where the name or the key of a Secret belongs is refused, and the message says why without its password.
func TestURLsInPlaceOfSecretsAreRefused(t *testing.T) {
	t.Parallel()
	const name, key = "a name as Kubernetes has them: lower-case letters, digits, - and .", "a key of a Secret: letters, digits, -, _ and ."
	for where, must := range map[string]string{
		"broker.secretName": name, "broker.backend.secretName": name, "broker.consumer.secretName": name, "store.secretName": name,
		"store.replica.secretName": name, "effectsConfigMap": name, "retentionConfigMap": name, "access.existingConfigMap": name, "access.existingSecret": name, "keda.token.secretName": name, "tests.token.secretName": name, "imagePullSecrets[0].name": name,
		"broker.secretKey": key, "broker.backend.secretKey": key, "broker.consumer.secretKey": key, "store.secretKey": key,
		"store.replica.secretKey": key, "keda.token.secretKey": key, "tests.token.secretKey": key,
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			values := map[string]any{}
			if err := strvals.ParseInto(where+"=amqp://guestbook:hunter2@rabbitmq/shop", values); err != nil {
				t.Fatal(err)
			}
			text, err := yaml.Marshal(values)
			if err != nil {
				t.Fatal(err)
			}
			_, err = release{values: merged(t, external, string(text))}.render(t)
			at := "at '/" + strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(where) + "': value must be '" + must + "'"
			if err == nil || !strings.Contains(err.Error(), at) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("it says %v; it should say %s", err, at)
			}
		})
	}
}
