package chart_test

import (
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// principals say who may do what, instead of everybody.
const principals = "access: {insecure: false, rules: {principals: [{name: shop, tokens: [{sha256: " +
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef, expires: 2027-06-30T00:00:00Z}], grants: ['append:orders.*']}], anonymous: [status]}}\n"

// whoMay returns where the pods of a role read who may do what: "ConfigMap NAME", "Secret NAME", "everybody", or "" if
// they do not ask. The file is mounted with its folder, without which a change would not reach it.
func whoMay(t *testing.T, values, role string) string {
	t.Helper()
	pods := podsOfRole(t, values, role)
	if len(pods) != 1 {
		t.Fatalf("there are %d kinds of pods of %s", len(pods), role)
	}
	spec, env := pods[0].spec, map[string]string{}
	for _, e := range spec.Containers[0].Env {
		env[e.Name] = e.Value
	}
	from, file := "", ""
	for _, v := range spec.Volumes {
		switch {
		case v.Name != "access":
		case v.Secret != nil:
			from, file = "Secret "+v.Secret.SecretName, v.Secret.Items[0].Path
		case v.ConfigMap != nil:
			from, file = "ConfigMap "+v.ConfigMap.Name, v.ConfigMap.Items[0].Path
		}
	}
	folder := ""
	for _, m := range spec.Containers[0].VolumeMounts {
		if m.Name == "access" && m.ReadOnly && m.SubPath == "" {
			folder = m.MountPath
		}
	}
	if at := env["DRAINMARK_ACCESS"]; at != "" && at != path.Join(folder, file) || (at == "") != (from == "") || (at == "") != (folder == "") {
		t.Errorf("%s: DRAINMARK_ACCESS is %q, and %q of %q is mounted at %q", role, at, file, from, folder)
	}
	if env["DRAINMARK_INSECURE"] == "true" {
		from += "everybody"
	}
	return from
}

// All roles know who may do what, from where the values say.
func TestAccess(t *testing.T) {
	t.Parallel()
	const insecure = "access: {insecure: false, "
	for values, want := range map[string]string{
		"":                                   "everybody",
		principals:                           "ConfigMap guestbook-drainmark-access",
		insecure + "existingConfigMap: own}": "ConfigMap own",
		insecure + "existingSecret: own}":    "Secret own",
	} {
		roles, of := merged(t, external, values), merged(t, inOne, values)
		for _, role := range []string{"frontend", "backend", "consumer"} {
			if got := whoMay(t, roles, role); got != want {
				t.Errorf("with %q %s goes by %q", values, role, got)
			}
		}
		if got := whoMay(t, of, "up"); got != want {
			t.Errorf("with %q up goes by %q", values, got)
		}
		for _, role := range []string{"init", "verify"} {
			if got := whoMay(t, roles, role); got != "" {
				t.Errorf("with %q %s goes by %q, and serves nobody", values, role, got)
			}
		}
		if made := accessFile(t, roles) != ""; made != (values == principals) {
			t.Errorf("with %q the chart makes a file of principals: %v", values, made)
		}
	}
}

// Pods can check tokens of the cluster's service accounts if they have been told to, and have no token otherwise.
func TestTheClusterAsAnIssuer(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]bool{
		principals: false,
		strings.Replace(principals, "access: {", "access: {clusterIssuer: true, ", 1): true,
		"access: {clusterIssuer: true}":                                               false, // where nobody is asked who they are
	} {
		roles := merged(t, external, values)
		for _, role := range []string{"frontend", "backend", "consumer"} {
			spec := podsOfRole(t, roles, role)[0].spec
			files := map[string]bool{}
			for _, v := range spec.Volumes {
				for _, source := range projected(v) {
					files["token"] = files["token"] || source.ServiceAccountToken != nil && source.ServiceAccountToken.Path == "token"
					files["ca.crt"] = files["ca.crt"] || source.ConfigMap != nil && source.ConfigMap.Name == "kube-root-ca.crt" && source.ConfigMap.Items[0].Path == "ca.crt"
				}
			}
			mounted := slices.ContainsFunc(spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
				return m.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount" && m.ReadOnly
			})
			if files["token"] != want || files["ca.crt"] != want || mounted != want {
				t.Errorf("with %q %s has %v, mounted %v", values, role, files, mounted)
			}
		}
	}
}

func projected(v corev1.Volume) []corev1.VolumeProjection {
	if v.Projected == nil {
		return nil
	}
	return v.Projected.Sources
}

// accessFile returns the file of principals that a release makes, if it does.
func accessFile(t *testing.T, values string) string {
	t.Helper()
	for _, o := range (release{values: values}).objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := typed.(*corev1.ConfigMap); ok && c.Name == "guestbook-drainmark-access" {
			return c.Data["access.yaml"]
		}
	}
	return ""
}

// The file is the text that was given, to the byte, or has the values that were given. Another one replaces no pod.
func TestFileOfPrincipals(t *testing.T) {
	t.Parallel()
	const text = "# ours, {{ not a template }}\r\nanonymous:\n- status\n"
	quoted, err := yaml.Marshal(map[string]any{"access": map[string]any{"rules": text, "insecure": false}})
	if err != nil {
		t.Fatal(err)
	}
	first, second := merged(t, external, string(quoted)), merged(t, external, principals)
	if got := accessFile(t, first); got != text {
		t.Errorf("the file is %q, and should be %q", got, text)
	}
	var given struct {
		Access struct{ Rules map[string]any }
	}
	var got map[string]any
	if err := yaml.Unmarshal([]byte(principals), &given); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(accessFile(t, second)), &got); err != nil || !reflect.DeepEqual(got, given.Access.Rules) {
		t.Errorf("the file is %v, and should have %v: %v", got, given.Access.Rules, err)
	}
	for _, role := range []string{"frontend", "backend", "consumer"} {
		if !reflect.DeepEqual(podsOfRole(t, first, role), podsOfRole(t, second, role)) {
			t.Errorf("another file replaces the pods of %s", role)
		}
	}
}

// helm test shows the token that the values name.
func TestTokenOfTheTests(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]string{"": "", "tests: {token: {secretName: v, secretKey: of-verify}}": "v/of-verify"} {
		spec, got := podsOfRole(t, merged(t, external, values), "verify")[0].spec, ""
		for _, v := range spec.Volumes {
			if v.Secret != nil {
				got = v.Secret.SecretName + "/" + v.Secret.Items[0].Key
			}
		}
		shows := slices.Contains(spec.Containers[0].Args, "--token-file=/etc/drainmark/token/token")
		mounted := slices.ContainsFunc(spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.Name == "token" && m.MountPath == "/etc/drainmark/token"
		})
		if got != want || shows != (want != "") || mounted != (want != "") {
			t.Errorf("with %q it has the token %q, mounted: %v, shown: %v", values, got, mounted, shows)
		}
	}
}

// KEDA shows the token that the values name, and none where nobody needs one.
func TestTokenOfKEDA(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]string{
		"keda: {enabled: true}":                                             "",
		principals + "keda: {enabled: true}":                                "",
		principals + "keda: {enabled: true, token: {secretName: k}}":        "bearer token=k/token",
		"keda: {enabled: true, token: {secretName: k, secretKey: of-keda}}": "bearer token=k/of-keda",
	} {
		got, refers, named := "", "", ""
		for _, o := range (release{values: merged(t, external, values)}).objects(t) {
			typed, err := decode(o)
			if err != nil {
				t.Fatal(err)
			}
			switch o := typed.(type) {
			case *scaledObject:
				got = strings.TrimSpace(o.Spec.Triggers[0].Metadata["authMode"] + " " + got)
				if ref := o.Spec.Triggers[0].AuthenticationRef; ref != nil {
					refers = ref.Name
				}
			case *triggerAuthentication:
				ref := o.Spec.SecretTargetRef[0]
				got, named = strings.TrimSpace(got+" "+ref.Parameter+"="+ref.Name+"/"+ref.Key), o.Name
			}
		}
		if got != want || refers != named {
			t.Errorf("with %q KEDA shows %q, by %q, and should show %q, by %q", values, got, refers, want, named)
		}
	}
}

// What "drainmark token new" prints has the token in a comment, which does not get into a ConfigMap.
func TestTokensInRulesAreRefused(t *testing.T) {
	t.Parallel()
	const token = "dmk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
	values, err := yaml.Marshal(map[string]any{"access": map[string]any{"insecure": false, "rules": "#   " + token + "\nanonymous: [status]\n"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = release{values: merged(t, external, string(values))}.render(t)
	if err == nil || !strings.Contains(err.Error(), "access.rules has a token in it") || strings.Contains(err.Error(), token) {
		t.Errorf("it says %v", err)
	}
}

// A token in place of its hash is refused, and the message does not have it.
func TestTokensInPlaceOfHashesAreRefused(t *testing.T) {
	t.Parallel()
	const token = "dmk_hunter2"
	_, err := release{values: merged(t, external, "access: {rules: {principals: [{name: shop, tokens: [{sha256: "+token+"}]}]}}")}.render(t)
	if err == nil || !strings.Contains(err.Error(), `value must be '64 hexadecimal digits, as "drainmark token new" prints them'`) || strings.Contains(err.Error(), token) {
		t.Errorf("it says %v", err)
	}
}
