{{/*
Names and labels. Each name has the release in it, and each selector too: two releases in one namespace never meet.
*/}}

{{/*
The name that all others begin with: the release's and the chart's. A release that is called like the chart has the name
once. No two releases have the same: all but one of them end with "-drainmark", and a name that is too long keeps a hash.
*/}}
{{- define "drainmark.fullname" -}}
{{- $name := printf "%s-drainmark" .Release.Name -}}
{{- if eq .Release.Name "drainmark" }}{{ $name = "drainmark" }}{{ end -}}
{{- $name = .Values.fullnameOverride | default $name -}}
{{- if gt (len $name) 40 -}}
{{- $name = printf "%s-%s" (trunc 31 $name | trimSuffix "-") (sha256sum $name | trunc 8) -}}
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
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The labels of a pod, with "extra" ones. A new version of the chart alone does not replace pods, so it is not among them. */}}
{{- define "drainmark.podLabels" -}}
{{ include "drainmark.selector" . }}
app.kubernetes.io/version: {{ .version | default .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: drainmark
{{- with merge (dict) (.extra | default dict) (.root.Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The labels of any other object: (dict "root" $ "component" "backend"). */}}
{{- define "drainmark.labels" -}}
{{ include "drainmark.podLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
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
