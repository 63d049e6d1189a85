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

{{/*
How many seconds a pod may take to end. The program goes on serving for its shutdown-delay, lets requests under way end
(request-timeout, and answer-timeout of a frontend), gives clients 10 s to take the answer and handlers 1 s to notice that
their connection is cut, publishes what was accepted (3 s) and commits what is in hand (5 s). 10 s are to spare.
*/}}
{{- define "drainmark.grace" -}}
{{- $args := dict "root" .root "role" .role -}}
{{- $own := (index .root.Values .role).terminationGracePeriodSeconds -}}
{{- if $own -}}
{{ $own }}
{{- else if eq .role "consumer" -}}
45
{{- else -}}
{{- $delay := include "drainmark.seconds" (include "drainmark.setting" (merge (dict "name" "shutdown-delay" "default" (ternary "0s" "5s" (eq .role "up"))) $args)) | int -}}
{{- $request := 0 -}}
{{- if eq .role "frontend" -}}
{{- $request = include "drainmark.seconds" (include "drainmark.setting" (merge (dict "name" "answer-timeout" "default" "2m") $args)) | int -}}
{{- else -}}
{{- $request = include "drainmark.seconds" (include "drainmark.setting" (merge (dict "name" "request-timeout" "default" "10s") $args)) | int -}}
{{- end -}}
{{ add $delay $request 10 1 3 5 10 }}
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

{{/* GOMEMLIMIT: 90 % of the memory limit of a container's resources, in bytes. Nothing without a limit. */}}
{{- define "drainmark.memoryLimit" -}}
{{- with (.limits | default dict).memory -}}
{{- mulf (include "drainmark.bytes" .) 0.9 | int64 -}}
{{- end -}}
{{- end -}}
