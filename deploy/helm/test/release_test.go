package chart_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	klabels "k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// Helm's linter has nothing to say, with the values as they are too.
func TestLint(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", external, trial, inOne} {
		var values map[string]any
		if err := yaml.Unmarshal([]byte(text), &values); err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.RunAll(chartDir, values, "shop").Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("with %q: %s", text, m)
			}
		}
	}
}

// goldens are the releases whose objects are in testdata, for people to look at.
var goldens = map[string]string{
	"roles": external,
	"up":    inOne + effects["effects"],
	"everything": trial + "keda: {enabled: true}\ningress: {enabled: true, hosts: [a.example]}\n" +
		"httpRoute: {enabled: true, parentRefs: [{name: web}]}\nnetworkPolicy: {enabled: true}\nserviceMonitor: {enabled: true}\n" +
		"frontend: {autoscaling: {enabled: true}}",
}

var (
	generated = regexp.MustCompile(`\b[A-Za-z0-9]{32}\b`)
	checksum  = regexp.MustCompile(`checksum/trial: [0-9a-f]{64}`)
)

// What a release has is what it had. Passwords and their checksums are another ones each time.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, values := range goldens {
		files, err := release{values: values}.render(t)
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, file := range slices.Sorted(maps.Keys(files)) {
			if text := strings.TrimSpace(files[file]); text != "" {
				fmt.Fprintf(&all, "# %s\n%s\n\n", file, strings.TrimPrefix(text, "---\n"))
			}
		}
		text := regexp.MustCompile(`\n\s*\n+`).ReplaceAllString(all.String(), "\n")
		text = checksum.ReplaceAllString(generated.ReplaceAllString(text, "PASSWORD"), "checksum/trial: SUM")
		compare(t, "testdata/"+name+".golden.yaml", text)
	}
}

// selectors are what the objects of a release select pods of the same namespace by.
func selectors(t *testing.T, r release) (all map[string]klabels.Selector, pods map[string]klabels.Set) {
	t.Helper()
	all, pods = map[string]klabels.Selector{}, map[string]klabels.Set{}
	for _, o := range r.objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range podsOf(typed) {
			pods[title(o)] = p.meta.Labels
		}
		add := func(what string, by *metav1.LabelSelector) {
			s, err := metav1.LabelSelectorAsSelector(by)
			if err != nil {
				t.Fatal(err)
			}
			all[title(o)+what] = s
		}
		switch o := typed.(type) {
		case *corev1.Service:
			add("", &metav1.LabelSelector{MatchLabels: o.Spec.Selector})
		case *appsv1.Deployment:
			add("", o.Spec.Selector)
			for i, c := range o.Spec.Template.Spec.TopologySpreadConstraints {
				add(fmt.Sprint(" spread ", i), c.LabelSelector)
			}
		case *appsv1.StatefulSet:
			add("", o.Spec.Selector)
		case *policyv1.PodDisruptionBudget:
			add("", o.Spec.Selector)
		case *networkingv1.NetworkPolicy:
			add("", &o.Spec.PodSelector)
			for i, rule := range o.Spec.Ingress {
				for j, peer := range rule.From {
					if peer.PodSelector != nil {
						add(fmt.Sprint(" from ", i, j), peer.PodSelector)
					}
				}
			}
			for i, rule := range o.Spec.Egress {
				for j, peer := range rule.To {
					if peer.PodSelector != nil {
						add(fmt.Sprint(" to ", i, j), peer.PodSelector)
					}
				}
			}
		}
	}
	return all, pods
}

const everythingOn = trial + "networkPolicy: {enabled: true}\nserviceMonitor: {enabled: true}\nkeda: {enabled: true}\n" +
	"ingress: {enabled: true}\nprometheusRule: {enabled: true}\ndashboard: {enabled: true}\n" +
	"httpRoute: {enabled: true, parentRefs: [{name: web}]}"

// Two releases in a namespace have no object's name in common, and none selects a pod of the other. In its own release
// each selector finds the pods that it is for.
func TestTwoReleasesDoNotMeet(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("guestbook-", 5)
	names := []string{
		"drainmark", "guestbook", "guestbook-drainmark", "drainmark-drainmark", "drainmark-backend", "x", "x-drainmark-backend",
		long + "a", long + "b", long + "c", "1.2", "1-2", "r-1-2", "a.b", "a-b",
	}
	all := map[string]release{}
	for _, name := range names {
		all[name] = release{name: name, values: everythingOn}
	}
	all["up-drainmark"] = release{name: "up-drainmark", values: inOne + "serviceMonitor: {enabled: true}\nnetworkPolicy: {enabled: true}"}
	owner, podsOf, selectorsOf := map[string]string{}, map[string]map[string]klabels.Set{}, map[string]map[string]klabels.Selector{}
	for name, r := range all {
		for _, o := range r.objects(t) {
			if other, taken := owner[title(o)]; taken {
				t.Errorf("the releases %s and %s both have %s", name, other, title(o))
			}
			owner[title(o)] = name
			if len(o.GetName()) > 63 {
				t.Errorf("the name %s is too long", o.GetName())
			}
		}
		selectorsOf[name], podsOf[name] = selectors(t, r)
	}
	for name, by := range selectorsOf {
		for what, selector := range by {
			for other, pods := range podsOf {
				for pod, labels := range pods {
					if selector.Matches(labels) && name != other {
						t.Errorf("%s of %s selects %s of %s", what, name, pod, other)
					}
				}
			}
			own := slices.Collect(maps.Values(podsOf[name]))
			if !slices.ContainsFunc(own, func(l klabels.Set) bool { return selector.Matches(l) }) {
				t.Errorf("%s of %s selects nothing", what, name)
			}
		}
	}
}

// A selector of a role finds that role's pods alone.
func TestSelectorsFindTheirOwn(t *testing.T) {
	t.Parallel()
	by, pods := selectors(t, release{values: everythingOn})
	for what, selector := range by {
		kind, name, _ := strings.Cut(what, " ")
		if kind != "Service" && kind != "Deployment" && kind != "PodDisruptionBudget" {
			continue
		}
		found := 0
		for _, labels := range pods {
			if selector.Matches(labels) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s %s selects %d kinds of pods", kind, name, found)
		}
	}
}

// trialSecret returns the trial Secret and the checksums of it on pods.
func trialSecret(t *testing.T, r release) (map[string]string, []string) {
	t.Helper()
	var secret map[string]string
	var sums []string
	for _, o := range r.objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := typed.(*corev1.Secret); ok {
			secret = s.StringData
		}
		for _, p := range podsOf(typed) {
			if sum := p.meta.Annotations["checksum/trial"]; sum != "" {
				sums = append(sums, sum)
			}
		}
	}
	return secret, sums
}

// The generated password is kept by an upgrade, which replaces no pod then. It is in the Secret alone.
func TestGeneratedPasswordIsKept(t *testing.T) {
	t.Parallel()
	first, sums := trialSecret(t, release{values: trial})
	password := first["password"]
	if len(password) != 32 || !strings.Contains(first["broker-url"], password) || !strings.Contains(first["rabbitmq.conf"], password) ||
		!strings.Contains(first["store-url"], password) || !strings.Contains(first["redis.conf"], password) {
		t.Fatalf("the Secret is %v", first)
	}
	kept := map[string]any{"guestbook-drainmark-trial": map[string]any{"password": base64.StdEncoding.EncodeToString([]byte(password))}}
	upgrade := release{values: trial, revision: 2, kept: kept}
	second, sumsThen := trialSecret(t, upgrade)
	if !reflect.DeepEqual(first, second) {
		t.Errorf("the upgrade has changed the Secret: %v", second)
	}
	all := append(slices.Clone(sums), sumsThen...)
	slices.Sort(all)
	if len(slices.Compact(all)) != 1 || len(sums) < 4 {
		t.Errorf("the checksums are %v, and %v after the upgrade", sums, sumsThen)
	}
	other, otherSums := trialSecret(t, release{values: trial})
	if other["password"] == password || otherSums[0] == sums[0] {
		t.Error("another installation has the same password")
	}
	for _, o := range upgrade.objects(t) {
		if text, err := yaml.Marshal(o.Object); err != nil || o.GetKind() != "Secret" && strings.Contains(string(text), password) {
			t.Errorf("%s has the password, or %v", title(o), err)
		}
	}
}

// The number of replicas is left to whoever scales.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]map[string]int32{
		"": {"frontend": 3, "backend": 3, "consumer": 2},
		"consumer: {replicas: 0}\nfrontend: {replicas: 5}":                                 {"frontend": 5, "backend": 3, "consumer": 0},
		"keda: {enabled: true}\nfrontend: {autoscaling: {enabled: true}}":                  {"backend": 3, "frontend": -1, "consumer": -1},
		"backend: {autoscaling: {enabled: true, minReplicas: 2}}\nconsumer: {replicas: 7}": {"backend": -1, "frontend": 3, "consumer": 7},
	} {
		scaled := map[string]bool{}
		for _, o := range (release{values: external + values}).objects(t) {
			typed, err := decode(o)
			if err != nil {
				t.Fatal(err)
			}
			role := o.GetLabels()["app.kubernetes.io/component"]
			switch o := typed.(type) {
			case *appsv1.Deployment:
				if has := o.Spec.Replicas; has == nil && want[role] != -1 || has != nil && *has != want[role] {
					t.Errorf("with %q %s has %s replicas", values, role, show(has))
				}
			case *scaledObject:
				scaled[role] = o.Spec.ScaleTargetRef.Name == "guestbook-drainmark-consumer" && o.Spec.Triggers[0].Metadata["valueLocation"] == "wanted" &&
					o.Spec.Triggers[0].Metadata["url"] == "http://guestbook-drainmark-backend.shop.svc:8080/v1/consumers"
			case *autoscalingv2.HorizontalPodAutoscaler:
				scaled[role] = o.Spec.ScaleTargetRef.Name == "guestbook-drainmark-"+role
			}
		}
		for role, n := range want {
			if scaled[role] != (n == -1) {
				t.Errorf("with %q somebody scales the role %s: %v", values, role, scaled[role])
			}
		}
	}
}

func show(n *int32) string {
	if n == nil {
		return "no number of"
	}
	return fmt.Sprint(*n)
}

// Each role gets the URLs that it has a right to, from the Secrets that the values name.
func TestURLs(t *testing.T) {
	t.Parallel()
	const users = everybody + "broker: {secretName: all, backend: {secretName: b, secretKey: url}, consumer: {secretName: c}}\n" +
		"store: {secretName: master, replica: {secretName: replicas}}"
	for values, want := range map[string]map[string]string{
		external: {
			"backend":  "broker=urls/broker store=urls/store",
			"consumer": "broker=urls/broker store=urls/store",
			"init":     "broker=urls/broker store=urls/store",
			"frontend": "", "verify": "",
		},
		users: {
			"backend":  "broker=b/url replica=replicas/replica",
			"consumer": "broker=c/broker store=master/store",
			"init":     "broker=c/broker store=master/store",
			"frontend": "", "verify": "",
		},
		trial: {
			"backend":  "broker=guestbook-drainmark-trial/broker-url store=guestbook-drainmark-trial/store-url",
			"consumer": "broker=guestbook-drainmark-trial/broker-url store=guestbook-drainmark-trial/store-url",
			"init":     "broker=guestbook-drainmark-trial/broker-url store=guestbook-drainmark-trial/store-url",
			"frontend": "", "verify": "",
		},
		inOne: {"up": "", "verify": ""},
		external + "batchKey: {secretName: keys}": {
			"backend":  "batch-key=keys/batch-key broker=urls/broker store=urls/store",
			"consumer": "batch-key=keys/batch-key broker=urls/broker store=urls/store",
			"init":     "broker=urls/broker store=urls/store",
			"frontend": "", "verify": "",
		},
		inOne + "batchKey: {secretName: keys, secretKey: now}": {"up": "batch-key=keys/now", "verify": ""},
	} {
		for role, urls := range want {
			pods := podsOfRole(t, values, role)
			if len(pods) != 1 {
				t.Fatalf("with %q there are %d kinds of pods of %s", values, len(pods), role)
			}
			if got := strings.Join(urlsOf(t, pods[0].spec), " "); got != urls {
				t.Errorf("with %q %s has %q", values, role, got)
			}
		}
	}
}

// urlsOf says which settings of a pod are files that come from which Secret and key.
func urlsOf(t *testing.T, spec corev1.PodSpec) (from []string) {
	t.Helper()
	files := map[string]string{}
	for _, v := range spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			for _, item := range source.Secret.Items {
				files["/etc/drainmark/"+v.Name+"/"+item.Path] = source.Secret.Name + "/" + item.Key
			}
		}
		if !slices.ContainsFunc(spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.Name == v.Name && m.MountPath == "/etc/drainmark/"+v.Name && m.SubPath == ""
		}) {
			t.Errorf("the volume %s is not mounted", v.Name)
		}
	}
	for _, e := range spec.Containers[0].Env {
		if name, ok := strings.CutSuffix(e.Name, "_FILE"); ok {
			from = append(from, strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "DRAINMARK_")), "_", "-")+"="+files[e.Value])
		}
		if e.ValueFrom != nil {
			t.Errorf("%s is a variable from %v", e.Name, e.ValueFrom)
		}
	}
	return from
}

// Each Service leads to ports that its pods have, and what routes lead to Services that there are.
func TestServicesLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, values := range []string{
		everythingOn, external + "keda: {enabled: true}", external + "frontend: {replicas: 0}\ningress: {enabled: true}",
		inOne + "ingress: {enabled: true}",
	} {
		services, targets := map[string][]int32{}, map[string]int32{}
		for _, o := range (release{values: values}).objects(t) {
			typed, err := decode(o)
			if err != nil {
				t.Fatal(err)
			}
			switch o := typed.(type) {
			case *corev1.Service:
				for _, p := range o.Spec.Ports {
					services[o.Name] = append(services[o.Name], p.Port)
					for _, pod := range podsOfRole(t, values, o.Spec.Selector["app.kubernetes.io/component"]) {
						if !slices.ContainsFunc(pod.spec.Containers[0].Ports, func(c corev1.ContainerPort) bool {
							if p.TargetPort.StrVal != "" {
								return c.Name == p.TargetPort.StrVal
							}
							return c.ContainerPort == p.Port
						}) {
							t.Errorf("the port %s of %s leads nowhere", p.Name, o.Name)
						}
					}
				}
			case *networkingv1.Ingress:
				s := o.Spec.Rules[0].HTTP.Paths[0].Backend.Service
				targets[s.Name] = s.Port.Number
			case *scaledObject:
				host, _, _ := strings.Cut(strings.TrimPrefix(o.Spec.Triggers[0].Metadata["url"], "http://"), ".")
				targets[host] = 8080
			}
			for _, p := range podsOf(typed) {
				for _, arg := range p.spec.Containers[0].Args {
					if m := regexp.MustCompile(`http://([a-z-]+):(\d+)$`).FindStringSubmatch(arg); m != nil {
						targets[m[1]] = 8080
					}
				}
			}
		}
		if len(targets) == 0 {
			t.Errorf("with %q nothing leads to a Service", values)
		}
		for name, port := range targets {
			if !slices.Contains(services[name], port) {
				t.Errorf("with %q something leads to port %d of %s, which has %v", values, port, name, services[name])
			}
		}
	}
}

// Frontends are led to backends that are ready, and Prometheus to all pods, of each role.
func TestHeadlessServices(t *testing.T) {
	t.Parallel()
	found := map[string]bool{} // whether pods that are not ready are published
	for _, o := range (release{values: everythingOn}).objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := typed.(*corev1.Service); ok && s.Spec.ClusterIP == corev1.ClusterIPNone {
			found[strings.TrimPrefix(s.Name, "guestbook-drainmark-")+" "+s.Spec.Ports[0].Name] = s.Spec.PublishNotReadyAddresses
		}
	}
	want := map[string]bool{
		"backend-headless http": false, "frontend-metrics admin": true, "backend-metrics admin": true, "consumer-metrics admin": true,
		"trial-rabbitmq rabbitmq": true, "trial-redis redis": true,
	}
	if !reflect.DeepEqual(found, want) {
		t.Errorf("they are %v, and should be %v", found, want)
	}
}

// The notes say what to do next.
func TestNotes(t *testing.T) {
	t.Parallel()
	for values, says := range map[string][]string{
		external:                           {"kubectl -n shop rollout status deployment/guestbook-drainmark-frontend", "helm test guestbook -n shop", "rollout restart", "WARNING: access.insecure is true", "-X POST -H 'Prefer"},
		external + "effectsConfigMap: own": {"After a change of the Secrets, or of the ConfigMap own:"},
		trial:                              {"WARNING: trial.* servers"},
		merged(t, external, principals):    {"Who may do what is in the ConfigMap guestbook-drainmark-access, from access.rules.", "exec deployment/guestbook-drainmark-frontend -- /drainmark token new NAME", `-H "Authorization: Bearer $TOKEN"`},
		merged(t, inOne, "access: {insecure: false, existingSecret: own}"): {"Who may do what is in the Secret own.", "exec statefulset/guestbook-drainmark-up -- /drainmark"},
		inOne:                                {"statefulset/guestbook-drainmark-up", "port-forward service/guestbook-drainmark-up 8080:8080"},
		external + "consumer: {replicas: 0}": {"nothing is persisted"},
		inOne + "up: {persistence: {enabled: false}}":                                  {"everything is gone with the pod"},
		external + "ingress: {enabled: true, hosts: [a.example], tls: [{hosts: [a]}]}": {"https://a.example/"},
	} {
		files, err := release{values: values}.render(t)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range says {
			if notes := files["drainmark/templates/NOTES.txt"]; !strings.Contains(notes, text) {
				t.Errorf("with %q they do not say %q:\n%s", values, text, notes)
			}
		}
	}
}
