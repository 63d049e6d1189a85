{{/*
What the pods of all roles have in common. Each takes (dict "root" $ "role" "backend").
*/}}

{{/* Settings as variables: those of the role, and those of all roles that it has. */}}
{{- define "drainmark.settings" -}}
{{- $all := .root.Values.settings | default dict -}}
{{- if eq .role "frontend" }}{{ $all = omit $all "partitions" "backlog-bytes" "replay-window" "producer-retention" }}{{ end -}}
{{- if eq .role "init" }}{{ $all = omit $all "profiles" "audit-file" }}{{ end -}}
{{- $own := (get .root.Values .role | default dict).settings | default dict -}}
{{- $defaults := dict -}}
{{- if and (has .role (list "backend" "consumer" "init")) (include "drainmark.trialBroker" .root) -}}
{{- $defaults = dict "backlog-bytes" .root.Values.trial.backlogBytes -}}
{{- end -}}
{{- range $name, $value := merge (dict) $own $all $defaults }}
{{- if and (not (kindIs "invalid" $value)) (ne (toString $value) "") }}
- name: DRAINMARK_{{ $name | upper | replace "-" "_" }}
  value: {{ include "drainmark.plain" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The Secret that a role serves with, if there is TLS. */}}
{{- define "drainmark.tlsSecret" -}}
{{- $tls := .root.Values.tls -}}
{{- if $tls.secretName }}{{ ternary ($tls.frontend.secretName | default $tls.secretName) $tls.secretName (eq .role "frontend") }}{{ end -}}
{{- end -}}

{{/* "https" if there is TLS. */}}
{{- define "drainmark.scheme" -}}
http{{ if .Values.tls.secretName }}s{{ end }}
{{- end -}}

{{/* The variables of a role for TLS. */}}
{{- define "drainmark.tlsEnv" -}}
{{- $auth := ternary .root.Values.tls.frontend.clientAuth .root.Values.tls.clientAuth (eq .role "frontend") -}}
- name: DRAINMARK_TLS_CERT
  value: /etc/drainmark/tls/tls.crt
- name: DRAINMARK_TLS_KEY
  value: /etc/drainmark/tls/tls.key
{{- if ne $auth "none" }}
- name: DRAINMARK_TLS_CLIENT_CA
  value: /etc/drainmark/tls/ca.crt
- name: DRAINMARK_TLS_CLIENT_AUTH
  value: {{ $auth }}
{{- end }}
{{- if eq .role "frontend" }}
{{- range $name, $file := dict "CA" "ca.crt" "CERT" "tls.crt" "KEY" "tls.key" }}
- name: DRAINMARK_BACKEND_{{ $name }}
  value: /etc/drainmark/backend-tls/{{ $file }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A value as text: numbers without an exponent, lists with commas. */}}
{{- define "drainmark.plain" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else if kindIs "slice" . }}{{ join "," . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* Where the broker's URL is: that of a trial server, the role's own, or that of all. As YAML. */}}
{{- define "drainmark.brokerSecret" -}}
{{- $broker := .root.Values.broker -}}
{{- $own := get $broker (ternary "consumer" .role (eq .role "init")) | default dict -}}
{{- if include "drainmark.trialBroker" .root -}}
secretName: {{ include "drainmark.name" (dict "root" .root "component" "trial") }}
secretKey: broker-url
{{- else -}}
secretName: {{ $own.secretName | default $broker.secretName | quote }}
secretKey: {{ $own.secretKey | default $broker.secretKey | quote }}
{{- end -}}
{{- end -}}

{{/* Where the URL of the store's master is. As YAML. */}}
{{- define "drainmark.storeSecret" -}}
{{- if .root.Values.trial.redis.enabled -}}
secretName: {{ include "drainmark.name" (dict "root" .root "component" "trial") }}
secretKey: store-url
{{- else -}}
secretName: {{ .root.Values.store.secretName | quote }}
secretKey: {{ .root.Values.store.secretKey | quote }}
{{- end -}}
{{- end -}}

{{/*
The settings of a role that are secrets, and the Secret and key that each comes from, as YAML. They are files: the program
reads those again for each connection, so that a changed Secret needs no new pod.
*/}}
{{- define "drainmark.secrets" -}}
{{- $replica := .root.Values.store.replica -}}
{{- if has .role (list "backend" "consumer" "init") }}
broker: {{- include "drainmark.brokerSecret" . | nindent 2 }}
{{- if and (eq .role "backend") $replica.secretName (not .root.Values.trial.redis.enabled) }}
replica: {{- toYaml $replica | nindent 2 }}
{{- else }}
store: {{- include "drainmark.storeSecret" . | nindent 2 }}
{{- end }}
{{- end }}
{{- if and (has .role (list "backend" "consumer" "up")) .root.Values.batchKey.secretName }}
batch-key: {{- toYaml .root.Values.batchKey | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The variables that name those files. */}}
{{- define "drainmark.secretsEnv" -}}
{{- range $name, $_ := include "drainmark.secrets" . | fromYaml }}
- name: DRAINMARK_{{ $name | upper | replace "-" "_" }}_FILE
  value: /etc/drainmark/secrets/{{ $name }}
{{- end }}
{{- end -}}

{{/* The volume with them. */}}
{{- define "drainmark.secretsVolume" -}}
name: secrets
projected:
  sources:
    {{- range $name, $from := include "drainmark.secrets" . | fromYaml }}
    - secret:
        name: {{ $from.secretName | quote }}
        items: [{key: {{ $from.secretKey | quote }}, path: {{ $name }}}]
    {{- end }}
{{- end -}}

{{- define "drainmark.secretsMount" -}}
name: secrets
mountPath: /etc/drainmark/secrets
readOnly: true
{{- end -}}

{{/*
The volume with what it takes to fetch the cluster's keys, where Kubernetes would have it: a token, and the authority. The
token is of a ServiceAccount to which this chart grants nothing.
*/}}
{{- define "drainmark.clusterVolume" -}}
name: cluster
projected:
  sources:
    - serviceAccountToken: {path: token}
    - configMap:
        name: kube-root-ca.crt
        items: [{key: ca.crt, path: ca.crt}]
{{- end -}}

{{/* "amqp" or "nats" if there is a broker for trying it out, otherwise nothing. */}}
{{- define "drainmark.trialBroker" -}}
{{- if ne .Values.mode "roles" }}{{ else if .Values.trial.rabbitmq.enabled }}amqp{{ else if .Values.trial.nats.enabled }}nats{{ end -}}
{{- end -}}

{{/* The name of the Secret for trying it out, if there is one. */}}
{{- define "drainmark.trialSecret" -}}
{{- if and (eq .Values.mode "roles") (or .Values.trial.rabbitmq.enabled .Values.trial.nats.enabled .Values.trial.redis.enabled) -}}
{{ include "drainmark.name" (dict "root" . "component" "trial") }}
{{- end -}}
{{- end -}}

{{/*
Variables as YAML, each once: later ones go before, so extraEnv goes before what the chart sets. Kubernetes would take a
variable that is there twice, but an upgrade that takes one of the two away takes both. NAME and NAME_FILE are one: the
program refuses to have both.
*/}}
{{- define "drainmark.once" -}}
{{- $names := list -}}
{{- $last := dict -}}
{{- range fromYamlArray . -}}
{{- $names = append (without $names .name (trimSuffix "_FILE" .name) (printf "%s_FILE" .name)) .name -}}
{{- $_ := set $last .name . -}}
{{- end -}}
{{- $all := list -}}
{{- range $names }}{{ $all = append $all (get $last .) }}{{ end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* The variables of OpenTelemetry, and of which pod the process is. Attributes of one's own stand behind that, and go before. */}}
{{- define "drainmark.otelEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ join "," (compact (list "k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE)" .OTEL_RESOURCE_ATTRIBUTES)) | quote }}
{{- range $name, $value := omit . "OTEL_RESOURCE_ATTRIBUTES" }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "drainmark.containerSecurityContext" -}}
{{- toYaml .Values.containerSecurityContext -}}
{{- end -}}

{{/* What pods of any kind of ours begin with. (dict "root" $ "of" VALUES), whose values go before those of all. */}}
{{- define "drainmark.podBasics" -}}
{{- $v := .root.Values -}}
serviceAccountName: {{ include "drainmark.serviceAccountName" .root | quote }}
automountServiceAccountToken: false
{{- /* The variables of Services would look like settings: drainmark-backend is DRAINMARK_BACKEND_SERVICE_HOST. */}}
enableServiceLinks: false
securityContext:
  {{- toYaml (.of.podSecurityContext | default $v.podSecurityContext) | nindent 2 }}
{{- with $v.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.priorityClassName | default $v.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .of.nodeSelector | default $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations | default $v.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity | default $v.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The metadata of a role's pods. */}}
{{- define "drainmark.podMetadata" -}}
{{- $own := index .root.Values .role -}}
labels:
  {{- $extra := merge (dict) ($own.podLabels | default dict) (.root.Values.podLabels | default dict) }}
  {{- include "drainmark.podLabels" (dict "root" .root "component" .role "extra" $extra) | nindent 2 }}
annotations:
  kubectl.kubernetes.io/default-container: {{ .role }}
  {{- if and (ne .role "frontend") (include "drainmark.trialSecret" .root) }}
  checksum/trial: {{ include (print .root.Template.BasePath "/trial-secret.yaml") .root | sha256sum }}
  {{- end }}
  {{- if and .root.Values.effects (include "drainmark.effectsConfigMap" .) }}
  checksum/effects: {{ include "drainmark.text" .root.Values.effects | sha256sum }}
  {{- end }}
  {{- with merge (dict) ($own.podAnnotations | default dict) (.root.Values.podAnnotations | default dict) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The pod of a role. */}}
{{- define "drainmark.podSpec" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $v := $root.Values -}}
{{- $own := index $v $role -}}
{{- $effects := include "drainmark.effectsConfigMap" . -}}
{{- $retention := include "drainmark.retentionConfigMap" . -}}
{{- $access := include "drainmark.accessVolume" $root -}}
{{- $tls := include "drainmark.tlsSecret" . -}}
{{- $secrets := include "drainmark.secretsEnv" . | trim -}}
{{- $cluster := and $access $v.access.clusterIssuer -}}
{{- $admin := ternary "port: admin, scheme: HTTPS" "port: admin" (ne $tls "") -}}
{{- include "drainmark.podBasics" (dict "root" $root "of" $own) }}
terminationGracePeriodSeconds: {{ include "drainmark.grace" . }}
{{- if ne $role "up" }}
topologySpreadConstraints:
  {{- if kindIs "invalid" $own.topologySpreadConstraints }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "drainmark.selector" (dict "root" $root "component" $role) | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
  {{- else }}
  {{- tpl (toYaml $own.topologySpreadConstraints) $root | nindent 2 }}
  {{- end }}
{{- end }}
containers:
  - name: {{ $role }}
    image: {{ include "drainmark.image" $root }}
    imagePullPolicy: {{ $v.image.pullPolicy }}
    args:
      - {{ $role }}
      {{- if eq $role "up" }}
      - --data=/data
      {{- end }}
      {{- if ne $role "consumer" }}
      - --listen=:8080
      {{- end }}
      - --admin-listen=:9090
      {{- if eq $role "frontend" }}
      - --backend=dns+{{ include "drainmark.scheme" $root }}://{{ include "drainmark.name" (dict "root" $root "component" "backend-headless") }}:8080
      {{- end }}
      {{- with $own.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- $env := list }}
    {{- if $secrets }}{{ $env = append $env $secrets }}{{ end }}
    {{- with include "drainmark.settings" . | trim }}{{ $env = append $env . }}{{ end }}
    {{- $env = append $env (ternary "- name: DRAINMARK_ACCESS\n  value: /etc/drainmark/access/access.yaml" "- name: DRAINMARK_INSECURE\n  value: \"true\"" (ne $access "")) }}
    {{- if $tls }}{{ $env = append $env (include "drainmark.tlsEnv" .) }}{{ end }}
    {{- if $effects }}{{ $env = append $env "- name: DRAINMARK_EFFECTS\n  value: /etc/drainmark/effects/effects.yaml" }}{{ end }}
    {{- if $retention }}{{ $env = append $env "- name: DRAINMARK_RETENTION\n  value: /etc/drainmark/retention/retention.yaml" }}{{ end }}
    {{- with include "drainmark.memoryLimit" ($own.resources | default dict) }}{{ $env = append $env (printf "- name: GOMEMLIMIT\n  value: %s" (quote .)) }}{{ end }}
    {{- with $v.otel }}{{ $env = append $env (include "drainmark.otelEnv" .) }}{{ end }}
    {{- with concat ($v.extraEnv | default list) ($own.extraEnv | default list) }}{{ $env = append $env (tpl (toYaml .) $root) }}{{ end }}
    {{- with $env }}
    env:
      {{- join "\n" . | include "drainmark.once" | nindent 6 }}
    {{- end }}
    {{- with concat ($v.extraEnvFrom | default list) ($own.extraEnvFrom | default list) }}
    envFrom:
      {{- tpl (toYaml .) $root | nindent 6 }}
    {{- end }}
    ports:
      {{- if ne $role "consumer" }}
      - name: http
        containerPort: 8080
      {{- end }}
      - name: admin
        containerPort: 9090
    {{- /* The first two ask the process about itself alone. Neither broker nor store can have it restarted: it waits for
           them, and a restart would help nobody. */}}
    startupProbe:
      httpGet: { {{- print "path: /livez, " $admin -}} }
      {{- toYaml $v.probes.startup | nindent 6 }}
    livenessProbe:
      httpGet: { {{- print "path: /livez, " $admin -}} }
      {{- toYaml $v.probes.liveness | nindent 6 }}
    {{- /* A frontend is ready when a backend answers it, and a backend when the broker confirms: without the database it
           accepts, and is ready. No request goes to a consumer, so one that is not ready takes nothing out of service: it
           is told in "kubectl get pods", and holds a rolling update up. */}}
    readinessProbe:
      httpGet: { {{- print "path: /readyz, " $admin -}} }
      {{- toYaml $v.probes.readiness | nindent 6 }}
    {{- with $own.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      {{- include "drainmark.containerSecurityContext" $root | nindent 6 }}
    {{- $mounts := concat ($v.extraVolumeMounts | default list) ($own.extraVolumeMounts | default list) }}
    {{- if or $mounts $effects $retention $access $tls $secrets $cluster (eq $role "up") }}
    volumeMounts:
      {{- if eq $role "up" }}
      - name: data
        mountPath: /data
      {{- end }}
      {{- if $secrets }}
      - {{ include "drainmark.secretsMount" . | nindent 8 | trim }}
      {{- end }}
      {{- if $effects }}
      - name: effects
        mountPath: /etc/drainmark/effects
        readOnly: true
      {{- end }}
      {{- if $retention }}
      - name: retention
        mountPath: /etc/drainmark/retention
        readOnly: true
      {{- end }}
      {{- /* The folder and not the file alone (subPath), which would not change with the ConfigMap. */}}
      {{- if $access }}
      - name: access
        mountPath: /etc/drainmark/access
        readOnly: true
      {{- end }}
      {{- if $cluster }}
      - name: cluster
        mountPath: /var/run/secrets/kubernetes.io/serviceaccount
        readOnly: true
      {{- end }}
      {{- if $tls }}
      - name: tls
        mountPath: /etc/drainmark/tls
        readOnly: true
      {{- if eq $role "frontend" }}
      - name: backend-tls
        mountPath: /etc/drainmark/backend-tls
        readOnly: true
      {{- end }}
      {{- end }}
      {{- with $mounts }}
      {{- tpl (toYaml .) $root | nindent 6 }}
      {{- end }}
    {{- end }}
  {{- with $own.extraContainers }}
  {{- tpl (toYaml .) $root | nindent 2 }}
  {{- end }}
{{- $volumes := concat ($v.extraVolumes | default list) ($own.extraVolumes | default list) }}
{{- $emptyData := and (eq $role "up") (not $own.persistence.enabled) }}
{{- if or $volumes $effects $retention $access $tls $secrets $cluster $emptyData }}
volumes:
  {{- if $emptyData }}
  - name: data
    emptyDir: {}
  {{- end }}
  {{- if $secrets }}
  - {{ include "drainmark.secretsVolume" . | nindent 4 | trim }}
  {{- end }}
  {{- if $effects }}
  - name: effects
    configMap:
      name: {{ $effects | quote }}
      items: [{key: effects.yaml, path: effects.yaml}]
  {{- end }}
  {{- if $retention }}
  - name: retention
    configMap:
      name: {{ $retention | quote }}
      items: [{key: retention.yaml, path: retention.yaml}]
  {{- end }}
  {{- with $access }}
  - {{ nindent 4 . | trim }}
  {{- end }}
  {{- if $cluster }}
  - {{ include "drainmark.clusterVolume" . | nindent 4 | trim }}
  {{- end }}
  {{- if $tls }}
  - name: tls
    secret:
      secretName: {{ $tls | quote }}
  {{- if eq $role "frontend" }}
  - name: backend-tls
    secret:
      secretName: {{ $v.tls.secretName | quote }}
  {{- end }}
  {{- end }}
  {{- with $volumes }}
  {{- tpl (toYaml .) $root | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}
