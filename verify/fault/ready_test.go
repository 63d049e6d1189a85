//go:build unix

package fault

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestReadyPlans(t *testing.T) {
	t.Parallel()
	if names := Names(); !slices.Equal(names, []string{"cluster", "harsh", "kubernetes", "local", "postgres"}) {
		t.Errorf("the ready plans are %v", names)
	}
	if _, err := Ready("moon"); err == nil || err.Error() != `there is no ready plan "moon": they are cluster, harsh, kubernetes, local, postgres` {
		t.Error(err)
	}
	for _, name := range Names() {
		plan, err := Ready(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range plan.Faults {
			if f.Writes && f.For < 3*time.Second {
				t.Errorf("%s, %s: for=%v is too short to say whether appends wait for the heal", name, f.Name, f.For)
			}
			for _, command := range []string{f.Run, f.Check, f.Heal} {
				if out, err := exec.CommandContext(t.Context(), "/bin/sh", "-n", "-c", command).CombinedOutput(); err != nil {
					t.Errorf("%s, %s: %s: %v: %s", name, f.Name, command, err, out)
				}
			}
		}
	}
}

// start is the command of a topology whose processes do nothing.
const start = `#!/bin/sh
cd "${0%/*}" || exit 1
if kill -0 $(cat $1.pid 2>/dev/null) 2>/dev/null && ps -o stat= -p $(cat $1.pid) | grep -q '^[^Z]'; then
  echo $1 is running; exit 1
fi
echo $1 >>started
sleep 1000 >/dev/null 2>&1 &
echo $! >$1.pid
`

// All faults of the plan for local processes, each once, done to processes that do nothing.
func TestLocalPlan(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a topology")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write("start", start)
	write("master", "#!/bin/sh\necho redis-replica-0\n")
	t.Cleanup(func() { killAll(t, dir) })
	names := strings.Fields("backend-0 backend-1 broker consumer-0 consumer-1 frontend redis-master redis-replica-0 sentinel-0")
	for _, name := range names {
		if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "start"), name).CombinedOutput(); err != nil {
			t.Fatalf("starting %s: %v: %s", name, err, out)
		}
	}
	write("started", "")
	plan, err := Ready("local")
	if err != nil {
		t.Fatal(err)
	}
	for i := range plan.Faults {
		f := &plan.Faults[i]
		f.Every, f.At, f.For = 0, time.Duration(i)*time.Millisecond, time.Millisecond
	}
	if _, err := play(t, plan.String(), Options{Env: []string{"DRAINMARK_TOPOLOGY=" + dir}}); err != nil {
		t.Fatal(err)
	}
	var began []string
	for name := range strings.FieldsSeq(read(t, dir, "started")) {
		name, _, _ = strings.Cut(name, "-")
		began = append(began, name)
	}
	// One of each, the master, all consumers, and everything, the servers first.
	want := strings.Fields("consumer backend broker redis consumer consumer")
	if len(began) != len(want)+len(names) || !slices.Equal(began[:len(want)], want) {
		t.Fatalf("these have been started again: %v", began)
	}
	all := began[len(want):]
	servers, ours := all[:4], all[4:]
	slices.Sort(servers)
	slices.Sort(ours)
	if !slices.Equal(servers, strings.Fields("broker redis redis sentinel")) ||
		!slices.Equal(ours, strings.Fields("backend backend consumer consumer frontend")) {
		t.Errorf("everything was started again as %v", all)
	}
}

// disturb is the commands of a topology that write down what they are to do, and whose state are files.
var disturb = map[string]string{
	"master": "#!/bin/sh\necho redis-replica-0\n",
	"start": `#!/bin/sh
cd "${0%/*}" || exit 1
echo "start $1${2:+ AT $2}" >>log
echo ${2:-0s} >$1.clock
sleep 1000 >/dev/null 2>&1 &
echo $! >$1.pid
`,
	"clock": "#!/bin/sh\ncd \"${0%/*}\" && cat $1.clock\n",
	"wire": `#!/bin/sh
cd "${0%/*}" || exit 1
[ -e $1.wire ] || exit 1
[ $# = 1 ] && { [ "$(cat $1.wire)" = open ]; exit; }
echo "wire $1 $2" >>log
echo $2 >$1.wire
`,
}

// All faults of the harsh plan but those of disks, which can only be filled if they are limited, each once.
func TestHarshPlan(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a topology")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range disturb {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { killAll(t, dir) })
	for _, name := range strings.Fields("backend-0 broker consumer-0 redis-replica-0") {
		if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "start"), name).CombinedOutput(); err != nil {
			t.Fatalf("starting %s: %v: %s", name, err, out)
		}
	}
	for _, name := range strings.Fields("broker-of-backend-0 broker-of-consumer-0 redis-replica-0") {
		if err := os.WriteFile(filepath.Join(dir, name+".wire"), []byte("open\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	touch(t, dir, "log")
	plan, err := Ready("harsh")
	if err != nil {
		t.Fatal(err)
	}
	plan.Faults = slices.DeleteFunc(plan.Faults, func(f Fault) bool { return strings.HasPrefix(f.Name, "fill-disk") })
	for i := range plan.Faults {
		f := &plan.Faults[i]
		f.Every, f.At, f.For = 0, time.Duration(i)*time.Millisecond, time.Millisecond
	}
	if _, err := play(t, plan.String(), Options{Env: []string{"DRAINMARK_TOPOLOGY=" + dir}}); err != nil {
		t.Fatal(err)
	}
	log := regexp.MustCompile(`AT -?\d+[hm]`).ReplaceAllString(read(t, dir, "log"), "AT t")
	want := `start consumer-0 AT t
start consumer-0
start backend-0 AT t
start backend-0
wire broker-of-consumer-0 cut
wire broker-of-consumer-0 open
wire broker-of-consumer-0 frozen
wire broker-of-consumer-0 open
wire broker-of-backend-0 frozen
wire broker-of-backend-0 open
wire broker-of-backend-0 frozen
wire broker-of-consumer-0 frozen
wire broker-of-backend-0 open
wire broker-of-consumer-0 open
wire redis-replica-0 frozen
wire redis-replica-0 open
`
	if log != want {
		t.Errorf("the topology was told to\n%swant\n%s", log, want)
	}
}

// All faults of the plan for a broker of several nodes, each once, done to processes that do nothing.
func TestClusterPlan(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a topology")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"start": start, "leader": "#!/bin/sh\n[ $1 -ge 0 ] && echo broker-0\n", "follower": "#!/bin/sh\n[ $1 -ge 0 ] && echo broker-1\n",
		"controller": "#!/bin/sh\necho broker-2\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { killAll(t, dir) })
	for _, name := range strings.Fields("broker-0 broker-1 broker-2") {
		if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "start"), name).CombinedOutput(); err != nil {
			t.Fatalf("starting %s: %v: %s", name, err, out)
		}
	}
	if err := os.Remove(filepath.Join(dir, "started")); err != nil {
		t.Fatal(err)
	}
	plan, err := Ready("cluster")
	if err != nil {
		t.Fatal(err)
	}
	for i := range plan.Faults {
		f := &plan.Faults[i]
		f.Every, f.At, f.For = 0, time.Duration(i)*time.Millisecond, time.Millisecond
	}
	if _, err := play(t, plan.String(), Options{Env: []string{"DRAINMARK_TOPOLOGY=" + dir}}); err != nil {
		t.Fatal(err)
	}
	began := strings.Fields(read(t, dir, "started"))
	if len(began) != 8 || !slices.Equal(began[:3], strings.Fields("broker-0 broker-1 broker-2")) ||
		began[3] == began[4] || !slices.Equal(began[5:], strings.Fields("broker-0 broker-1 broker-2")) {
		t.Errorf("these have been started again: %v", began)
	}
}

// kubectl is one for a cluster with two pods of each component, whose consumers can be scaled.
const kubectl = `#!/bin/sh
cd "${0%/*}" || exit 1
[ "$1 $2" = "-n staging" ] || exit 1
all="$*"
case "$all" in
*" get deployment "*secretKeyRef.name*) printf urls ;;
*" get deployment "*secretKeyRef.key*) printf broker ;;
*" get deployment "*) printf 2 ;;
*" get secret urls "*broker*) printf 'amqp://rabbit' | base64 ;;
*" patch secret urls -p "*) shift 6; echo patch $* >>log ;;
*" create --raw "*"/eviction -f -") grep -q '"kind":"Eviction"' && echo evict ${5%/eviction} >>log ;;
*" rollout restart deployment "*) echo roll out >>log; touch rolled ;;
*" rollout status deployment "*) rm rolled ;;
*" get pod/"*) [ ! -e rolled ] ;;
*" scale deployment "*component=consumer*) echo scale ${all##*=} >>log; echo ${all##*=} >scale ;;
*" get pods "*component=consumer*) [ $(cat scale) = 0 ] || printf 'pod/consumer-0\npod/consumer-1\n' ;;
*" get pods "*component=*) pod=${all##*component=}; pod=${pod%% *}; printf "pod/$pod-0\npod/$pod-1\n" ;;
*" get pods "*name=drainmark*) printf 'pod/backend-0\npod/broker-0\n' ;;
*" delete pod/"*" --grace-period=0 --force") shift 2; echo $* >>log ;;
*) exit 1 ;;
esac
`

// All faults of the plan for Kubernetes, each once, with a kubectl that only writes down what it is to do.
func TestKubernetesPlan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"kubectl": kubectl, "scale": "2", "log": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := Ready("kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	for i := range plan.Faults {
		f := &plan.Faults[i]
		f.Every, f.At, f.For = 0, time.Duration(i)*time.Millisecond, min(f.For, time.Millisecond)
		f.Within = min(f.Within, time.Minute)
	}
	env := []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "DRAINMARK_NAMESPACE=staging"}
	if _, err := play(t, plan.String(), Options{Env: env}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"delete pod/consumer-N", "delete pod/backend-N", "delete pod/frontend-N", "delete pod/broker-N", "delete pod/redis-N",
		"delete pod/redis-N pod/redis-N", "scale 0", "scale 2",
		"evict /api/v1/namespaces/staging/pods/backend-N", "evict /api/v1/namespaces/staging/pods/consumer-N",
		"evict /api/v1/namespaces/staging/pods/frontend-N", "roll out",
		`patch {"data":{"broker":"YW1xcDovL3JhYmJpdAo="}}`, "roll out",
		"delete pod/backend-N pod/broker-N pod/broker-N pod/redis-N pod/redis-N",
	}
	log := strings.NewReplacer("-0", "-N", "-1", "-N", " --grace-period=0 --force", "").Replace(read(t, dir, "log"))
	if got := strings.Split(strings.TrimSpace(log), "\n"); !slices.Equal(got, want) {
		t.Errorf("kubectl was told to\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// killAll kills the processes of a topology.
func killAll(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.pid"))
	if err != nil {
		t.Error(err)
	}
	for _, f := range files {
		pid, err := strconv.Atoi(strings.TrimSpace(read(t, f)))
		if err != nil || pid <= 1 {
			t.Errorf("%s has no process: %v", f, err)
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}
