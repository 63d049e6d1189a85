{{/*
Names and labels. Each name has the release in it, and each selector too: two releases in one namespace never meet.
*/}}

{{/*
The name that all others begin with: the release's and the chart's. A release that is called like the chart has the name
once. No two releases have the same: all but one of them end with "-drainmark", and the others with a hash. Those are names
that are too long, or cannot begin that of a Service, such as "1.2". The longest with a StatefulSet, "-trial-rabbitmq", has
room for the hash of 10 characters that Kubernetes adds in a label of 63.
*/}}
{{- define "drainmark.fullname" -}}
{{- $name := printf "%s-drainmark" .Release.Name -}}
{{- if eq .Release.Name "drainmark" }}{{ $name = "drainmark" }}{{ end -}}
{{- $name = .Values.fullnameOverride | default $name -}}
{{- if or (gt (len $name) 37) (not (regexMatch "^[a-z][-a-z0-9]*$" $name)) -}}
{{- $plain := regexReplaceAll "[^-a-z0-9]" $name "-" -}}
{{- $name = printf "%s-%s" (regexReplaceAll "^[^a-z]" $plain "r-$0" | trunc 28 | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* The name of something of a component: (dict "root" $ "component" "backend"). */}}
{{- define "drainmark.name" -}}
{{ include "drainmark.fullname" .root }}-{{ .component }}
{{- end -}}

{{- define "drainmark.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "drainmark.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* What a selector of a component's pods has. It never changes: (dict "root" $ "component" "backend"). */}}
{{- define "drainmark.selector" -}}
app.kubernetes.io/name: {{ .name | default "drainmark" }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* A text as the value of a label: at most 63 characters, of which the first and the last are letters or digits. */}}
{{- define "drainmark.label" -}}
{{ regexReplaceAll "^[^A-Za-z0-9]+|[^A-Za-z0-9]+$" (trunc 63 .) "" }}
{{- end -}}

{{/* The labels of a pod, with "extra" ones. A new version of the chart alone does not replace pods, so it is not among them. */}}
{{- define "drainmark.podLabels" -}}
{{ include "drainmark.selector" . }}
app.kubernetes.io/version: {{ .version | default .root.Values.image.tag | default .root.Chart.AppVersion | include "drainmark.label" | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: drainmark
{{- with merge (dict) (.extra | default dict) (.root.Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The labels of any other object: (dict "root" $ "component" "backend"). */}}
{{- define "drainmark.labels" -}}
{{ include "drainmark.podLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | include "drainmark.label" }}
{{- end -}}

{{- define "drainmark.image" -}}
{{- $i := .Values.image -}}
{{- if $i.digest -}}
{{ $i.repository }}@{{ $i.digest }}
{{- else -}}
{{ $i.repository }}:{{ $i.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The roles that are Deployments. */}}
{{- define "drainmark.roles" -}}
{{- if eq .Values.mode "roles" }}frontend backend consumer{{ end -}}
{{- end -}}

{{/* Who serves the pages and the API to clients. */}}
{{- define "drainmark.entry" -}}
{{- if eq .Values.mode "up" }}up{{ else if or .Values.frontend.autoscaling.enabled (gt (int .Values.frontend.replicas) 0) }}frontend{{ else }}backend{{ end -}}
{{- end -}}

{{/* The text of a file that the values have as text or as YAML, if they have it. */}}
{{- define "drainmark.text" -}}
{{- with . }}{{ kindIs "string" . | ternary . (toYaml . | printf "%s\n") }}{{ end -}}
{{- end -}}

{{/* The ConfigMap with the effects of a role, if it applies some: (dict "root" $ "role" "consumer"). */}}
{{- define "drainmark.effectsConfigMap" -}}
{{- if not (has .role (list "consumer" "up")) -}}
{{- else if .root.Values.effectsConfigMap -}}
{{ .root.Values.effectsConfigMap }}
{{- else if .root.Values.effects -}}
{{ include "drainmark.name" (dict "root" .root "component" "effects") }}
{{- end -}}
{{- end -}}

{{/* The ConfigMap with the rules of retention of a role, if it has some: (dict "root" $ "role" "backend"). */}}
{{- define "drainmark.retentionConfigMap" -}}
{{- if not (has .role (list "backend" "up")) -}}
{{- else if .root.Values.retentionConfigMap -}}
{{ .root.Values.retentionConfigMap }}
{{- else if .root.Values.retention -}}
{{ include "drainmark.name" (dict "root" .root "component" "retention") }}
{{- end -}}
{{- end -}}

{{/* The volume with the file of principals as YAML, unless everybody may do everything. */}}
{{- define "drainmark.accessVolume" -}}
{{- $access := .Values.access -}}
{{- if not $access.insecure -}}
name: access
{{- if $access.existingSecret }}
secret:
  secretName: {{ $access.existingSecret | quote }}
{{- else }}
configMap:
  name: {{ $access.existingConfigMap | default (include "drainmark.name" (dict "root" . "component" "access")) | quote }}
{{- end }}
  items: [{key: access.yaml, path: access.yaml}]
{{- end -}}
{{- end -}}
