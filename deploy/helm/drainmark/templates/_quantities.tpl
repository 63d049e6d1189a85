{{/*
Numbers that follow from others. Tests compare them with the program: its defaults, and what its stop takes.
*/}}

{{/* Whole seconds of a Go duration such as 1m30s, rounded up. */}}
{{- define "drainmark.seconds" -}}
{{- $zero := toDate "2006-01-02" "2000-01-01" -}}
{{- $end := mustDateModify . $zero -}}
{{- $seconds := sub (unixEpoch $end) (unixEpoch $zero) -}}
{{- ternary $seconds (add $seconds 1) (eq (date ".000000000" $end) ".000000000") -}}
{{- end -}}

{{/* A setting of a role: its own, or that of all roles, or the program's default, in this order. */}}
{{- define "drainmark.setting" -}}
{{- $own := get ((index .root.Values .role).settings | default dict) .name -}}
{{- $all := get (.root.Values.settings | default dict) .name -}}
{{- toString (coalesce $own $all .default) -}}
{{- end -}}

{{/* Whole seconds of a setting of a role: (dict "root" $ "role" ROLE "name" NAME "default" DEFAULT). */}}
{{- define "drainmark.settingSeconds" -}}
{{ include "drainmark.seconds" (include "drainmark.setting" .) }}
{{- end -}}

{{/*
How many seconds a pod may take to end: more than a whole stop. A program that serves goes on for its shutdown-delay, lets
requests under way end (request-timeout, or answer-timeout of a frontend), gives clients 10 s to take the answer and
handlers 1 s to notice that they are cut off. A backend publishes what it has accepted (3 s). A consumer commits what is in
hand (5 s), and gives its claims up (a lease, twice). The last number is to spare.
*/}}
{{- define "drainmark.grace" -}}
{{- $set := dict "root" .root "role" .role -}}
{{- $delay := include "drainmark.settingSeconds" (merge (dict "name" "shutdown-delay" "default" (ternary "0s" "5s" (eq .role "up"))) $set) -}}
{{- $request := include "drainmark.settingSeconds" (merge (dict "name" "request-timeout" "default" "10s") $set) -}}
{{- $answer := include "drainmark.settingSeconds" (merge (dict "name" "answer-timeout" "default" "2m") $set) -}}
{{- $lease := include "drainmark.settingSeconds" (merge (dict "name" "lease" "default" "5s") $set) -}}
{{- $own := (index .root.Values .role).terminationGracePeriodSeconds -}}
{{- if $own -}}
{{ $own }}
{{- else if eq .role "frontend" -}}
{{ add $delay $answer 10 1 10 }}
{{- else if eq .role "backend" -}}
{{ add $delay $request 10 1 3 10 }}
{{- else if eq .role "up" -}}
{{ add $delay $request 10 1 5 $lease $lease 10 }}
{{- else -}}
{{ add 5 $lease $lease 30 }}
{{- end -}}
{{- end -}}

{{/* Bytes of a quantity such as 512Mi, 1.5Gi or 500M. */}}
{{- define "drainmark.bytes" -}}
{{- $text := toString . -}}
{{- $units := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- $factor := 1 -}}
{{- if $unit }}{{ $factor = required (printf "the unit of the quantity %q is none of Ki, Mi, Gi, Ti, k, M, G, T" $text) (get $units $unit) }}{{ end -}}
{{- mulf (float64 (trimSuffix $unit $text)) $factor | int64 -}}
{{- end -}}

{{/* Fails if a quantity is below another one: (dict "of" NAME "is" QUANTITY "least" QUANTITY). */}}
{{- define "drainmark.atLeast" -}}
{{- if lt (include "drainmark.bytes" .is | int64) (include "drainmark.bytes" .least | int64) -}}
{{- fail (printf "%s: %s is below %s; without a unit it is bytes" .of (include "drainmark.plain" .is) .least) -}}
{{- end -}}
{{- end -}}

{{/* GOMEMLIMIT: 90 % of the memory limit of a container's resources, in bytes. Nothing without a limit. */}}
{{- define "drainmark.memoryLimit" -}}
{{- with (.limits | default dict).memory -}}
{{- mulf (include "drainmark.bytes" .) 0.9 | int64 -}}
{{- end -}}
{{- end -}}
